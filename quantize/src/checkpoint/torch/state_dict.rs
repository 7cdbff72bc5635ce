//! Reads the tensors from the pickled state dict. The calls that the pickle machine recorded are checked against the
//! members, with arithmetic that cannot overflow. Several tensors may share a storage, and a tensor may be any view of
//! a storage.

use super::archive::Archive;
use crate::checkpoint::pickle::allowed_globals::{Global, StorageType};
use crate::checkpoint::pickle::{Node, Pickle, PickleError, Value};
use crate::checkpoint::shard::{SourceTensor, is_unused_tensor};
use crate::checkpoint::zip::Member;
use crate::error::Code;
use llama_ext::GgmlType;
use std::collections::HashSet;
use std::fmt::{self, Write as _};

/// Every tensor of a LLaMA model is a vector or a matrix; old exports have masks of four dimensions.
const MAX_DIMS: usize = 4;
/// Limit on the name of a storage, which is a number.
const MAX_KEY: usize = 64;

/// The pickled table and the members that it refers to.
struct Table<'a> {
    archive: &'a Archive<'a>,
    pickle: &'a Pickle<'a>,
    shard: usize,
}

/// Tensors, names of their members, and names of unused tensors.
pub(super) type Listed<'a> = (Vec<SourceTensor>, HashSet<&'a str>, Vec<String>);
pub(super) type PickleResult<T> = std::result::Result<T, PickleError>;

/// The arguments of the call that rebuilds a tensor.
struct View<'a> {
    storage: Value,
    offset: Value,
    shape: &'a [Value],
    strides: &'a [Value],
    at: usize,
}

/// Lists the tensors of shard number `shard`.
pub(super) fn tensors<'a>(archive: &'a Archive<'a>, pickle: &'a Pickle<'a>, shard: usize) -> PickleResult<Listed<'a>> {
    Table { archive, pickle, shard }.tensors()
}

impl<'a> Table<'a> {
    fn tensors(&self) -> PickleResult<Listed<'a>> {
        let Some(Node::Dict { pairs, .. }) = self.pickle.node(self.pickle.root) else {
            return Err(pickle_error(Code::TorchState, 0, "is not a dict of tensors"));
        };
        let (mut tensors, mut used, mut unused) = (Vec::new(), HashSet::new(), Vec::new());
        let mut seen = HashSet::new();
        for (key, value) in pairs {
            let Some(name) = self.pickle.text(*key) else {
                return Err(pickle_error(Code::TorchState, 0, "has an entry whose key is not a string"));
            };
            let (at, shown) = (self.pickle.offset_of(*key), Escaped(name));
            if !seen.insert(name) {
                return Err(pickle_error(Code::TorchDuplicate, at, format!("duplicate tensor '{shown}'")));
            }
            let view = self.view(shown, at, *value)?;
            let (kind, member) = self.storage(shown, &view)?;
            match dtype(kind) {
                Some(dtype) => {
                    used.insert(member.name.as_str());
                    tensors.push(self.tensor(name, dtype, &view, member)?);
                }
                // masks of booleans: no loader uses them, so their type does not matter
                None if is_unused_tensor(name) => unused.push(name.to_owned()),
                None => {
                    let what = format!(
                        "tensor '{shown}' has elements of type {kind:?}; BFloat16, Half and Float are supported"
                    );
                    return Err(pickle_error(Code::TorchDtype, view.at, what));
                }
            }
        }
        Ok((tensors, used, unused))
    }

    /// Returns the arguments of the tensor's call, inside any wrapping parameters. The machine bounds their nesting.
    fn view(&self, name: Escaped<'_>, key: usize, mut value: Value) -> PickleResult<View<'a>> {
        loop {
            let Some(Node::Call { global, args, at }) = self.pickle.node(value) else {
                return Err(pickle_error(Code::TorchState, key, format!("entry '{name}' is not a tensor")));
            };
            match (global, args.as_slice()) {
                (Global::Parameter, [inner, ..]) => value = *inner,
                (Global::Tensor, [storage, offset, shape, strides, more @ ..]) => {
                    // conjugate and negative bits of a view change the values
                    if !more.get(2).is_none_or(|meta| self.is_none_or_empty(*meta)) {
                        return Err(pickle_error(
                            Code::TorchView,
                            *at,
                            format!("tensor '{name}' has metadata that changes its values"),
                        ));
                    }
                    let (Some(shape), Some(strides)) = (self.pickle.tuple(*shape), self.pickle.tuple(*strides)) else {
                        return Err(pickle_error(
                            Code::PickleValue,
                            *at,
                            format!("tensor '{name}' has a shape or strides that are not a tuple"),
                        ));
                    };
                    return Ok(View { storage: *storage, offset: *offset, shape, strides, at: *at });
                }
                _ => return Err(pickle_error(Code::TorchState, *at, format!("entry '{name}' is not a tensor"))),
            }
        }
    }

    /// Whether `value` is None or an empty dict.
    fn is_none_or_empty(&self, value: Value) -> bool {
        match self.pickle.node(value) {
            Some(Node::Dict { pairs, .. }) => pairs.is_empty(),
            _ => value == Value::None,
        }
    }

    /// Returns type and member of the storage `('storage', type, key, location, numel)`, and checks its length.
    fn storage(&self, name: Escaped<'_>, view: &View<'_>) -> PickleResult<(StorageType, &'a Member)> {
        let Some(Node::Persistent { id, at }) = self.pickle.node(view.storage) else {
            return Err(pickle_error(
                Code::PickleValue,
                view.at,
                format!("tensor '{name}' does not refer to a storage"),
            ));
        };
        let [tag, Value::Global(Global::Storage(kind)), key, location, Value::Int(numel)] = id.as_slice() else {
            return Err(pickle_error(Code::PickleValue, *at, format!("tensor '{name}' has a malformed storage id")));
        };
        let (Some("storage"), Some(key), Some(_)) =
            (self.pickle.text(*tag), self.pickle.text(*key), self.pickle.text(*location))
        else {
            return Err(pickle_error(Code::PickleValue, *at, format!("tensor '{name}' has a malformed storage id")));
        };
        let member =
            Some(key).filter(|key| key.len() <= MAX_KEY).and_then(|key| self.archive.member(&format!("data/{key}")));
        let Some(member) = member else {
            return Err(pickle_error(
                Code::TorchStorage,
                *at,
                format!("tensor '{name}' is in storage '{}', which is missing in the file", Escaped(key)),
            ));
        };
        if i128::from(*numel).saturating_mul(i128::from(kind.width())) != i128::from(member.len) {
            let what = format!(
                "tensor '{name}' is in {numel} elements of {kind:?}, but member '{}' has {} bytes",
                member.name, member.len
            );
            return Err(pickle_error(Code::TorchStorage, *at, what));
        }
        Ok((*kind, member))
    }

    fn tensor(&self, name: &str, dtype: GgmlType, view: &View<'_>, member: &Member) -> PickleResult<SourceTensor> {
        let invalid_view =
            |what: &str| pickle_error(Code::TorchView, view.at, format!("tensor '{}' {what}", Escaped(name)));
        if view.shape.len() > MAX_DIMS || view.shape.len() != view.strides.len() {
            return Err(invalid_view(&format!(
                "has {} dimensions and {} strides",
                view.shape.len(),
                view.strides.len()
            )));
        }
        let number = |value: &Value| if let Value::Int(n) = value { u64::try_from(*n).ok() } else { None };
        let numbers = |list: &[Value]| list.iter().map(number).collect::<Option<Vec<u64>>>();
        let (Some(shape), Some(strides), Some(first)) =
            (numbers(view.shape), numbers(view.strides), number(&view.offset))
        else {
            return Err(invalid_view("has a shape, stride or offset that is not a number of elements"));
        };
        let width = dtype.block_bytes() as u64;
        let outside = || {
            invalid_view(&format!(
                "of shape {shape:?} with strides {strides:?} from element {first} reaches outside its storage"
            ))
        };
        // factors have 63 bits, so products, and sums of four products, fit into 128 bits
        let empty = shape.contains(&0);
        let steps =
            shape.iter().zip(&strides).map(|(n, s)| u128::from(n.saturating_sub(1)).saturating_mul(u128::from(*s)));
        let last = u128::from(first).saturating_add(if empty { 0 } else { steps.fold(0, u128::saturating_add) });
        let held = u128::from(member.len.checked_div(width).unwrap_or(0));
        if last > held || (last == held && !empty) {
            return Err(outside());
        }
        // with a stride of 0 a tensor can be larger than its storage, so its size is checked separately
        let count = shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d)).and_then(|n| n.checked_mul(width));
        let bytes = count.filter(|n| i64::try_from(*n).is_ok()).ok_or_else(outside)?;
        let offset = member.offset.saturating_add(first.saturating_mul(width));
        let strides = (!empty && !is_contiguous(&shape, &strides)).then_some(strides);
        Ok(SourceTensor { name: name.to_owned(), dtype, shape, shard: self.shard, offset, bytes, strides })
    }
}

/// Displays a name from the file: escaped, on one line, truncated.
#[derive(Clone, Copy)]
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARS: usize = 120;
        self.0.escape_debug().take(MAX_CHARS).try_for_each(|c| f.write_char(c))?;
        if self.0.escape_debug().nth(MAX_CHARS).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

fn pickle_error(code: Code, at: usize, what: impl Into<String>) -> PickleError {
    PickleError { code, at, what: what.into() }
}

fn dtype(kind: StorageType) -> Option<GgmlType> {
    match kind {
        StorageType::BFloat16 => Some(GgmlType::BF16),
        StorageType::Half => Some(GgmlType::F16),
        StorageType::Float => Some(GgmlType::F32),
        _ => None,
    }
}

/// Whether the tensor is contiguous. The stride of a dimension of size 1 does not matter.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1_u64;
    shape.iter().zip(strides).rev().all(|(n, stride)| {
        let fits = *n == 1 || *stride == expected;
        expected = expected.saturating_mul(*n);
        fits
    })
}

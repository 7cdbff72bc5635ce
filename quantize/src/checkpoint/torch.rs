//! PyTorch `.bin` files: a zip file with a pickled table of tensors and one member for each storage.
//!
//! ```text
//! ROOT/data.pkl     name → _rebuild_tensor_v2(storage "7" of n BFloat16 elements, offset, shape, strides, …)
//! ROOT/data/7       the elements, stored as they are: read in place
//! ROOT/version, ROOT/byteorder
//! ```
//!
//! ROOT is any one folder. The pickle machine gives calls as data; here they are checked against the members, with
//! numbers that cannot wrap. Several tensors may share a storage, and a tensor may be any view of it.

use super::pickle::global::{Global, StorageType};
use super::pickle::{self, Fault, Node, Pickle, Value};
use super::zip::{self, Member};
use super::{Checksum, Shard, SourceTensor};
use crate::error::{Code, Error, Result};
use crate::names;
use crate::positioned::read_exact_at;
use llama_ext::GgmlType;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

/// Every tensor of a LLaMA model is a vector or a matrix; old exports have masks of four dimensions.
const MAX_DIMS: usize = 4;
/// PyTorch reads these (`kMinSupportedFileFormatVersion` and its maximum).
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=10;
/// `version` and `byteorder` have a few bytes.
const MAX_NOTE: u64 = 64;

const DAMAGED: &str = "the file is damaged or cut: download it again";
const REFUSED: &str = "only tensors are loaded; nothing was executed";

/// Opens `path` and lists its tensors as those of shard number `shard`.
pub(crate) fn open(path: &Path, shard: usize, notes: &mut Vec<String>) -> Result<(Shard, Vec<SourceTensor>)> {
    let (file, len) = super::open_regular(path)?;
    check_format(path, &file, len)?;
    let archive = Archive::open(path, &file, len)?;
    let text = archive.read("data.pkl", pickle::MAX_BYTES)?.unwrap_or_default();
    let pickle = Pickle::read(&text).map_err(|fault| archive.refuse(fault))?;
    let table = Table { archive: &archive, pickle: &pickle, shard };
    let (mut tensors, used, left_out) = table.tensors().map_err(|fault| archive.refuse(fault))?;
    tensors.sort_by_key(|t| t.offset);

    let mut sums: Vec<Checksum> = Vec::new();
    let mut unsummed = 0;
    for member in archive.members.iter().filter(|m| used.contains(m.name.as_str())) {
        // 0 is what PyTorch writes when it was told to compute none; a real sum of 0 is one in four billion
        if member.crc == 0 && member.len > 0 {
            unsummed += 1;
        } else {
            let Member { name, offset, len, crc } = member.clone();
            sums.push(Checksum { name, offset, len, crc });
        }
    }
    if unsummed > 0 {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        notes.push(format!("{unsummed} storages of {name} carry no CRC32: damage in them cannot be seen"));
    }
    Ok((Shard { path: path.to_owned(), file, len, sums, left_out }, tensors))
}

/// The zip layout, or the reason why not by name.
fn check_format(path: &Path, file: &File, len: u64) -> Result<()> {
    let mut head = [0; 512];
    let n = usize::try_from(len).unwrap_or(usize::MAX).min(head.len());
    read_exact_at(file, &mut head[..n], 0).map_err(|err| Error::io(path, "read the first bytes", &err))?;
    let head = &head[..n];
    // the pickled number 0x1950a86a20f9469cfc6c, of any protocol
    let legacy =
        head.first() == Some(&0x80) && head.get(2..14) == Some(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
    let again =
        "load it with the PyTorch that wrote it, and save it again with torch.save of 1.6 or newer, or as safetensors";
    let (what, fix) = if head.starts_with(b"PK\x03\x04") {
        return Ok(());
    } else if legacy {
        ("is in PyTorch's legacy layout of before 1.6 (no zip file), which is not read", again)
    } else if head.get(257..262) == Some(b"ustar") {
        ("is in PyTorch's oldest layout (a tar file), which is not read", again)
    } else if head.starts_with(b"version https://git-lfs") {
        ("is a Git LFS pointer, not the weights", "fetch the weights with git lfs pull")
    } else {
        ("does not begin as a zip file, so it is none that torch.save wrote", DAMAGED)
    };
    Err(Error::new(Code::TorchFormat, path, what, fix))
}

/// The members under the one root.
struct Archive<'a> {
    path: &'a Path,
    file: &'a File,
    /// With the slash at its end.
    root: String,
    members: Vec<Member>,
    by_name: HashMap<String, usize>,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path, file: &'a File, len: u64) -> Result<Self> {
        let bad = |code, what: String| Error::new(code, path, what, DAMAGED);
        let members = zip::members(path, file, len)?;
        let roots: Vec<&str> = members.iter().filter_map(|m| m.name.strip_suffix("data.pkl")).collect();
        let root = match roots.as_slice() {
            [root] if root.strip_suffix('/').is_some_and(|r| !r.contains('/')) => (*root).to_owned(),
            [] => {
                return Err(bad(
                    Code::TorchFormat,
                    "is a zip file without a data.pkl, so it is none that torch.save wrote".to_owned(),
                ));
            }
            [root] => {
                return Err(bad(Code::ZipName, format!("has its data.pkl at '{root}data.pkl', not in one folder")));
            }
            [_, ..] => return Err(bad(Code::ZipDuplicate, format!("has {} members named data.pkl", roots.len()))),
        };
        if let Some(other) = members.iter().find(|m| !m.name.starts_with(&root)) {
            return Err(bad(Code::ZipName, format!("member '{}' is not under '{root}'", other.name)));
        }
        let by_name = members.iter().enumerate().map(|(i, m)| (m.name.clone(), i)).collect();
        let archive = Self { path, file, root, members, by_name };
        archive.check_notes()?;
        Ok(archive)
    }

    fn check_notes(&self) -> Result<()> {
        let version = self.read("version", MAX_NOTE)?.unwrap_or_else(|| b"3".to_vec());
        let number = std::str::from_utf8(&version).ok().and_then(|text| text.trim_end().parse().ok());
        if !number.is_some_and(|n| VERSIONS.contains(&n)) {
            let what = format!("is of version '{}', 1 to 10 are read", version.escape_ascii());
            return Err(Error::new(Code::TorchVersion, self.path, what, DAMAGED));
        }
        match self.read("byteorder", MAX_NOTE)?.as_deref() {
            None | Some(b"little") => Ok(()),
            Some(order) => {
                let what = format!("has byte order '{}'; little is read", order.escape_ascii());
                let fix = "save it again on a little-endian machine (x86, ARM)";
                Err(Error::new(Code::TorchEndian, self.path, what, fix))
            }
        }
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.by_name.get(&format!("{}{name}", self.root)).and_then(|i| self.members.get(*i))
    }

    /// All of a small member, its sum checked.
    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.member(name) else { return Ok(None) };
        if member.len > most {
            let what = format!("member '{}' has {} bytes, at most {most} are read", member.name, member.len);
            return Err(Error::new(Code::PickleLimit, self.path, what, REFUSED));
        }
        let mut bytes = vec![0; usize::try_from(member.len).unwrap_or(0)];
        read_exact_at(self.file, &mut bytes, member.offset)
            .map_err(|err| Error::io(self.path, &format!("read member '{}'", member.name), &err))?;
        let sum = crc32fast::hash(&bytes);
        if member.crc != 0 && member.crc != sum {
            return Err(wrong_sum(self.path, &member.name, member.offset, member.crc, sum));
        }
        Ok(Some(bytes))
    }

    fn refuse(&self, fault: Fault) -> Error {
        let at = self.member("data.pkl").map_or(0, |m| m.offset).saturating_add(fault.at as u64);
        let what = format!("data.pkl+0x{:x} (byte {at}): {}", fault.at, fault.what);
        let fix = match fault.code {
            Code::PickleGlobal => REFUSED,
            Code::PickleProtocol | Code::PickleOpcode => {
                "only tensors are loaded, nothing was executed; if the file is honest, save it again with torch.save's default protocol"
            }
            Code::TorchState => "only a plain state_dict is read: save that alone",
            Code::TorchDtype => "convert the tensor to float32, float16 or bfloat16 first",
            _ => "the file is damaged or hand-made: download it again",
        };
        Error::new(fault.code, self.path, what, fix)
    }
}

/// Both who read small members and who read weights say it alike.
pub(crate) fn wrong_sum(path: &Path, name: &str, offset: u64, wanted: u32, found: u32) -> Error {
    let what = format!("member '{name}' at byte {offset} has CRC32 {found:08x}, stored with it is {wanted:08x}");
    Error::new(Code::ZipCrc, path, what, DAMAGED)
}

/// The pickled table with the members it is about.
struct Table<'a> {
    archive: &'a Archive<'a>,
    pickle: &'a Pickle<'a>,
    shard: usize,
}

/// Tensors, names of the members they lie in, and names of tensors that are left out.
type Listed<'a> = (Vec<SourceTensor>, HashSet<&'a str>, Vec<String>);
type Step<T> = std::result::Result<T, Fault>;

/// What a tensor's call says.
struct View<'a> {
    storage: Value,
    offset: Value,
    shape: &'a [Value],
    strides: &'a [Value],
    at: usize,
}

impl<'a> Table<'a> {
    fn tensors(&self) -> Step<Listed<'a>> {
        let Some(Node::Dict { pairs, .. }) = self.pickle.node(self.pickle.root) else {
            return Err(fault(Code::TorchState, 0, "is not a table of tensors"));
        };
        let (mut tensors, mut used, mut left_out) = (Vec::new(), HashSet::new(), Vec::new());
        let mut seen = HashSet::new();
        for (key, value) in pairs {
            let Some(name) = self.pickle.text(*key) else {
                return Err(fault(Code::TorchState, 0, "has an entry whose key is no text"));
            };
            if !seen.insert(name) {
                return Err(fault(Code::TorchDuplicate, 0, format!("tensor '{name}' stands twice")));
            }
            let view = self.view(name, *value)?;
            let (kind, member) = self.storage(name, &view)?;
            match dtype(kind) {
                Some(dtype) => {
                    used.insert(member.name.as_str());
                    tensors.push(self.tensor(name, dtype, &view, member)?);
                }
                // masks of booleans and the like: every loader skips them, so their type is no reason to stop
                None if names::is_skipped(name) => left_out.push(name.to_owned()),
                None => {
                    let what =
                        format!("tensor '{name}' has elements of type {kind:?}; BFloat16, Half and Float are read");
                    return Err(fault(Code::TorchDtype, view.at, what));
                }
            }
        }
        Ok((tensors, used, left_out))
    }

    /// The tensor's call, out of the parameters it may be wrapped in. Nesting is bounded by the machine.
    fn view(&self, name: &str, mut value: Value) -> Step<View<'a>> {
        loop {
            let Some(Node::Call { global, args, at }) = self.pickle.node(value) else {
                return Err(fault(Code::TorchState, 0, format!("entry '{name}' is not a tensor")));
            };
            match (global, args.as_slice()) {
                (Global::Parameter, [inner, ..]) => value = *inner,
                (Global::Tensor, [storage, offset, shape, strides, more @ ..]) => {
                    // the conjugate and negative bits of a view: values that are not what the bytes say
                    if !more.get(2).is_none_or(|meta| self.is_nothing(*meta)) {
                        return Err(fault(
                            Code::TorchView,
                            *at,
                            format!("tensor '{name}' has metadata that would change its values"),
                        ));
                    }
                    let (Some(shape), Some(strides)) = (self.pickle.tuple(*shape), self.pickle.tuple(*strides)) else {
                        return Err(fault(
                            Code::PickleValue,
                            *at,
                            format!("tensor '{name}' has a shape or strides that are no tuple"),
                        ));
                    };
                    return Ok(View { storage: *storage, offset: *offset, shape, strides, at: *at });
                }
                _ => return Err(fault(Code::TorchState, *at, format!("entry '{name}' is not a tensor"))),
            }
        }
    }

    fn is_nothing(&self, value: Value) -> bool {
        match self.pickle.node(value) {
            Some(Node::Dict { pairs, .. }) => pairs.is_empty(),
            _ => value == Value::None,
        }
    }

    /// The member that `('storage', type, key, location, numel)` names, as long as it has to be.
    fn storage(&self, name: &str, view: &View<'_>) -> Step<(StorageType, &'a Member)> {
        let Some(Node::Persistent { id, at }) = self.pickle.node(view.storage) else {
            return Err(fault(Code::PickleValue, view.at, format!("tensor '{name}' lies in what is no storage")));
        };
        let [tag, Value::Global(Global::Storage(kind)), key, location, Value::Int(numel)] = id.as_slice() else {
            return Err(fault(
                Code::PickleValue,
                *at,
                format!("tensor '{name}' has a storage that is named as none is"),
            ));
        };
        let (Some("storage"), Some(key), Some(_)) =
            (self.pickle.text(*tag), self.pickle.text(*key), self.pickle.text(*location))
        else {
            return Err(fault(
                Code::PickleValue,
                *at,
                format!("tensor '{name}' has a storage that is named as none is"),
            ));
        };
        let Some(member) = self.archive.member(&format!("data/{key}")) else {
            return Err(fault(
                Code::TorchStorage,
                *at,
                format!("tensor '{name}' lies in storage '{}', which is not in the file", key.escape_debug()),
            ));
        };
        if i128::from(*numel) * i128::from(kind.width()) != i128::from(member.len) {
            let what = format!(
                "tensor '{name}' lies in {numel} elements of {kind:?}, but member '{}' has {} bytes",
                member.name, member.len
            );
            return Err(fault(Code::TorchStorage, *at, what));
        }
        Ok((*kind, member))
    }

    fn tensor(&self, name: &str, dtype: GgmlType, view: &View<'_>, member: &Member) -> Step<SourceTensor> {
        let lie = |what: &str| fault(Code::TorchView, view.at, format!("tensor '{name}' {what}"));
        if view.shape.len() > MAX_DIMS || view.shape.len() != view.strides.len() {
            return Err(lie(&format!("has {} dimensions and {} strides", view.shape.len(), view.strides.len())));
        }
        let number = |value: &Value| if let Value::Int(n) = value { u64::try_from(*n).ok() } else { None };
        let numbers = |list: &[Value]| list.iter().map(number).collect::<Option<Vec<u64>>>();
        let (Some(shape), Some(strides), Some(first)) =
            (numbers(view.shape), numbers(view.strides), number(&view.offset))
        else {
            return Err(lie("has a shape, stride or offset that is no number of elements"));
        };
        let width = dtype.block_bytes() as u64;
        let outside = || {
            lie(&format!("of shape {shape:?} with strides {strides:?} from element {first} is not within its storage"))
        };
        // every factor has 63 bits, so products fit into 128 and so do sums of four
        let empty = shape.contains(&0);
        let steps = shape.iter().zip(&strides).map(|(n, s)| u128::from(n.saturating_sub(1)) * u128::from(*s));
        let last = u128::from(first) + if empty { 0 } else { steps.sum() };
        let held = u128::from(member.len / width);
        if last > held || (last == held && !empty) {
            return Err(outside());
        }
        // a stride of 0 makes a tensor larger than its storage, so the bytes need their own check
        let count = shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d)).and_then(|n| n.checked_mul(width));
        let bytes = count.filter(|n| i64::try_from(*n).is_ok()).ok_or_else(outside)?;
        let offset = member.offset + first * width;
        let strides = (!empty && !is_contiguous(&shape, &strides)).then_some(strides);
        Ok(SourceTensor { name: name.to_owned(), dtype, shape, shard: self.shard, offset, bytes, strides })
    }
}

fn fault(code: Code, at: usize, what: impl Into<String>) -> Fault {
    Fault { code, at, what: what.into() }
}

fn dtype(kind: StorageType) -> Option<GgmlType> {
    match kind {
        StorageType::BFloat16 => Some(GgmlType::BF16),
        StorageType::Half => Some(GgmlType::F16),
        StorageType::Float => Some(GgmlType::F32),
        _ => None,
    }
}

/// Whether the elements lie one after another. The stride of a dimension of one means nothing.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1_u64;
    shape.iter().zip(strides).rev().all(|(n, stride)| {
        let fits = *n == 1 || *stride == expected;
        expected = expected.saturating_mul(*n);
        fits
    })
}

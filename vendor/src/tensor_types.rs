//! Returns the storage type of each tensor of a LLaMA model under a mix. llama.cpp's own rules compute it
//! (`tensor_types.cpp`); they are not reimplemented.

use crate::{Error, Ftype, GgmlType};
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString, c_char};

/// The hyperparameters of a LLaMA model that the rules depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are llama.cpp's")]
pub struct ModelShape {
    pub n_embd: u32,
    pub n_ff: u32,
    pub n_layer: u32,
    pub n_head: u32,
    pub n_head_kv: u32,
    /// Width of one head.
    pub head_dim: u32,
}

/// The properties of a tensor that the rules need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDesc<'a> {
    /// GGUF name, such as `blk.0.attn_q.weight`.
    pub name: &'a str,
    /// Row length in weights.
    pub n_per_row: u64,
    /// Rows; 0 for a vector.
    pub n_rows: u64,
    /// The type before quantization; tensors that are not quantized keep it.
    pub source: GgmlType,
}

/// A mix, and the options of llama-quantize that change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeRules {
    /// The mix.
    pub ftype: Ftype,
    /// `--pure`: every matrix in the mix's main type.
    pub pure: bool,
    /// Whether quantization uses an importance matrix; the rules for some types depend on it.
    pub has_imatrix: bool,
    /// `--output-tensor-type`.
    pub output: Option<GgmlType>,
    /// `--token-embedding-type`.
    pub token_embedding: Option<GgmlType>,
    /// `--tensor-type PATTERN=TYPE`: ECMAScript regular expressions for GGUF names. The first that matches part of a
    /// name sets the type.
    pub overrides: Vec<(String, GgmlType)>,
}

impl TypeRules {
    /// Returns the rules of a mix without any option.
    #[must_use]
    pub const fn plain(ftype: Ftype) -> Self {
        let overrides = Vec::new();
        Self { ftype, pure: false, has_imatrix: false, output: None, token_embedding: None, overrides }
    }
}

/// The overrides as C structs, which point to strings that this struct owns.
pub(crate) struct RawOverrides {
    _patterns: Vec<CString>,
    raw: Vec<sys::llama_model_tensor_override>,
}

impl RawOverrides {
    pub(crate) fn new(overrides: &[(String, GgmlType)]) -> Result<Self, Error> {
        let patterns = overrides
            .iter()
            .map(|(pattern, _)| CString::new(pattern.as_str()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Error::Native("a tensor pattern contains a NUL".to_owned()))?;
        let each = patterns.iter().zip(overrides);
        let mut raw: Vec<_> = each
            .map(|(pattern, (_, kind))| sys::llama_model_tensor_override {
                pattern: pattern.as_ptr(),
                type_: kind.id(),
            })
            .collect();
        raw.push(sys::llama_model_tensor_override { pattern: std::ptr::null(), type_: sys::GGML_TYPE_COUNT });
        Ok(Self { _patterns: patterns, raw })
    }

    /// Returns the list, which ends with a NULL pattern.
    pub(crate) fn as_ptr(&self) -> *const sys::llama_model_tensor_override {
        self.raw.as_ptr()
    }
}

/// Maximum number of layers (`LLAMA_MAX_LAYERS`); llama.cpp aborts above it.
pub const MAX_LAYERS: u32 = 512;
/// Maximum length of a tensor name in bytes (`GGML_MAX_NAME` without its NUL).
pub const MAX_NAME: usize = 63;

#[repr(C)]
struct RawDesc {
    architecture: *const c_char,
    n_embd: u32,
    n_ff: u32,
    n_layer: u32,
    n_head: u32,
    n_head_kv: u32,
    n_expert: u32,
    n_embd_head_k: u32,
    n_embd_head_v: u32,
}

#[repr(C)]
struct RawTensor {
    name: *const c_char,
    n_per_row: i64,
    n_rows: i64,
    kind: i32,
}

#[repr(C)]
struct RawRules {
    ftype: i32,
    pure: i32,
    has_imatrix: i32,
    output_type: i32,
    token_embedding_type: i32,
    overrides: *const sys::llama_model_tensor_override,
}

unsafe extern "C" {
    fn llama_ext_pattern_finds(pattern: *const c_char, names: *const *const c_char, n_names: usize) -> i64;
    fn llama_ext_tensor_types(
        desc: *const RawDesc,
        rules: *const RawRules,
        tensors: *const RawTensor,
        n_tensors: usize,
        types: *mut i32,
        error: *mut c_char,
        error_size: usize,
    ) -> i32;
}

/// Returns how many of `names` a pattern of [`TypeRules::overrides`] matches.
///
/// # Errors
/// [`Error::Native`] when the pattern is not a valid regular expression.
pub fn pattern_finds(pattern: &str, names: &[&str]) -> Result<usize, Error> {
    let text =
        |text: &str| CString::new(text).map_err(|_| Error::Native("a name or pattern contains a NUL".to_owned()));
    let compiled = text(pattern)?;
    let names = names.iter().map(|name| text(name)).collect::<Result<Vec<_>, _>>()?;
    let raw: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: all strings end with a NUL and live in `compiled` and `names` until after the call, and `raw` has the
    // length given. The C++ function catches exceptions.
    let found = unsafe { llama_ext_pattern_finds(compiled.as_ptr(), raw.as_ptr(), raw.len()) };
    usize::try_from(found).map_err(|_| Error::Native(format!("'{pattern}' is not a regular expression")))
}

/// Returns the type of every tensor under `rules`, in the order of `tensors`. The rules count layers in that order.
///
/// # Errors
/// [`Error::Native`] when llama.cpp does not support the shape or a tensor, when it chooses a type that this workspace
/// does not write, or when a pattern is not a regular expression.
pub fn tensor_types(shape: &ModelShape, rules: &TypeRules, tensors: &[TensorDesc<'_>]) -> Result<Vec<GgmlType>, Error> {
    if shape.n_layer == 0 || shape.n_layer > MAX_LAYERS {
        return Err(Error::Native(format!("{} layers, outside 1 to {MAX_LAYERS}", shape.n_layer)));
    }
    let bad = |name: &str, why: &str| Error::Native(format!("tensor '{name}': {why}"));
    let names = tensors
        .iter()
        .map(|t| match CString::new(t.name) {
            Ok(name) if t.name.len() <= MAX_NAME => Ok(name),
            _ => Err(bad(t.name, "the name is too long or contains a NUL")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let dim = |t: &TensorDesc<'_>, n: u64| i64::try_from(n).map_err(|_| bad(t.name, "a dimension is too large"));
    let raw = tensors
        .iter()
        .zip(&names)
        .map(|(t, name)| {
            let (n_per_row, n_rows) = (dim(t, t.n_per_row)?, dim(t, t.n_rows)?);
            t.source.row_bytes(usize::try_from(t.n_per_row).unwrap_or(0))?;
            Ok(RawTensor { name: name.as_ptr(), n_per_row, n_rows, kind: t.source.id() as i32 })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let desc = RawDesc {
        architecture: c"llama".as_ptr(),
        n_embd: shape.n_embd,
        n_ff: shape.n_ff,
        n_layer: shape.n_layer,
        n_head: shape.n_head,
        n_head_kv: shape.n_head_kv,
        n_expert: 0,
        n_embd_head_k: shape.head_dim,
        n_embd_head_v: shape.head_dim,
    };
    let overrides = RawOverrides::new(&rules.overrides)?;
    let id = |kind: Option<GgmlType>| kind.map_or(-1, |kind| kind.id() as i32);
    let raw_rules = RawRules {
        ftype: rules.ftype.id() as i32,
        pure: i32::from(rules.pure),
        has_imatrix: i32::from(rules.has_imatrix),
        output_type: id(rules.output),
        token_embedding_type: id(rules.token_embedding),
        overrides: overrides.as_ptr(),
    };
    let mut types = vec![0_i32; raw.len()];
    let mut error: [c_char; 256] = [0; 256];
    // SAFETY: `raw` and `types` have the same length. The names live in `names` and the patterns in `overrides` until
    // after the call, and the overrides end with a NULL pattern. The error buffer has the length given, and the C++
    // function always ends its text with a NUL. The two conditions that llama.cpp asserts (number of layers, length of
    // a tensor name) were checked above. The C++ function catches exceptions.
    let status = unsafe {
        llama_ext_tensor_types(
            &raw const desc,
            &raw const raw_rules,
            raw.as_ptr(),
            raw.len(),
            types.as_mut_ptr(),
            error.as_mut_ptr(),
            error.len(),
        )
    };
    if status != 0 {
        // SAFETY: the C++ function writes a NUL-terminated string to the buffer.
        return Err(Error::Native(unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned()));
    }
    tensors
        .iter()
        .zip(types)
        .map(|(t, id)| {
            let known = u32::try_from(id).ok().and_then(GgmlType::from_id).filter(|kind| kind.is_written());
            known.ok_or_else(|| bad(t.name, &format!("llama.cpp chose type {id}, which this program does not write")))
        })
        .collect()
}

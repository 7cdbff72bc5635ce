//! Calls llama.cpp's own quantizer, from GGUF file to GGUF file. It is the reference of the converter's tests; the
//! program does not use it.

use crate::tensor_types::RawOverrides;
use crate::{Error, TypeRules, log};
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::Path;

/// An importance matrix: the GGUF names of tensors, each with one weight for each column.
pub type Importance = [(String, Vec<f32>)];

/// Calls `llama_model_quantize`: reads the GGUF file `from` and writes `to` under `rules`, with `n_threads` threads.
/// Uses `importance` if `rules.has_imatrix`.
///
/// # Errors
/// [`Error::Native`] with the end of llama.cpp's log. llama.cpp may leave a partial file `to`.
pub fn quantize_file(
    from: &Path,
    to: &Path,
    rules: &TypeRules,
    importance: &Importance,
    n_threads: u16,
) -> Result<(), Error> {
    let nul = |what: &str| Error::Native(format!("{what}: the name contains a NUL"));
    let path =
        |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| nul(&path.display().to_string()));
    let (from, to) = (path(from)?, path(to)?);
    let overrides = RawOverrides::new(&rules.overrides)?;
    let names = importance
        .iter()
        .map(|(name, _)| CString::new(name.as_str()).map_err(|_| nul(name)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut weights: Vec<_> = importance
        .iter()
        .zip(&names)
        .map(|((_, data), name)| sys::llama_model_imatrix_data {
            name: name.as_ptr(),
            data: data.as_ptr(),
            size: data.len(),
        })
        .collect();
    weights.push(sys::llama_model_imatrix_data { name: std::ptr::null(), data: std::ptr::null(), size: 0 });

    log::clear();
    // SAFETY: the defaults are a plain struct of numbers and null pointers.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = rules.ftype.id();
    params.nthread = i32::from(n_threads);
    params.pure_ = rules.pure;
    params.output_tensor_type = rules.output.map_or(sys::GGML_TYPE_COUNT, |kind| kind.id());
    params.token_embedding_type = rules.token_embedding.map_or(sys::GGML_TYPE_COUNT, |kind| kind.id());
    params.tt_overrides = overrides.as_ptr();
    params.allow_requantize = true;
    if rules.has_imatrix {
        params.imatrix = weights.as_ptr();
    }
    // SAFETY: two NUL-terminated paths and a parameter struct whose lists end with NULL entries. All of it, with the
    // names and weights that the lists point to, lives until after the call. llama.cpp catches its own exceptions here.
    let status = unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
    if status == 0 { Ok(()) } else { Err(Error::Native(log::tail())) }
}

//! llama.cpp's own quantizer, GGUF file to GGUF file: the oracle our one-pass converter is tested against.

use crate::{Error, Ftype, log};
use llama_cpp_sys_2 as sys;
use std::ffi::CString;
use std::path::Path;

/// Runs `llama_model_quantize`: reads the GGUF file `from`, writes `to` under `ftype` with `n_threads` threads.
///
/// # Errors
/// [`Error::Native`] with llama.cpp's own last words; a partial `to` may be left behind, as llama.cpp leaves it.
pub fn quantize_file(from: &Path, to: &Path, ftype: Ftype, n_threads: u16) -> Result<(), Error> {
    let text = |path: &Path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        CString::new(bytes).map_err(|_| Error::Native(format!("{}: NUL in the path", path.display())))
    };
    let (from, to) = (text(from)?, text(to)?);
    log::clear();
    // SAFETY: the defaults are a plain struct of numbers and null pointers.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = ftype.id();
    params.nthread = i32::from(n_threads);
    // SAFETY: two NUL-terminated paths and a parameter struct with only null pointers, all alive during the call;
    // llama.cpp catches its own exceptions here.
    let status = unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) };
    if status == 0 { Ok(()) } else { Err(Error::Native(log::tail())) }
}

//! llama.cpp's global state.

use super::settings::Numa;
use crate::error::{Code, Failure};
use llama_cpp_2::llama_backend::LlamaBackend;
use std::sync::{Mutex, OnceLock};

/// Returns llama.cpp's global state, which is created once for the life of the process.
pub(super) fn backend() -> Result<&'static LlamaBackend, Failure> {
    start(Numa::Off)
}

/// Like [`backend`], with a NUMA strategy. Only the first call in the process sets it.
pub(super) fn start(numa: Numa) -> Result<&'static LlamaBackend, Failure> {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    static CREATING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = CREATING.lock();
    if let Some(backend) = BACKEND.get() {
        return Ok(backend);
    }
    llama_ext::log::capture(None);
    super::backend_files::backend_files();
    let backend = numa
        .strategy()
        .map_or_else(LlamaBackend::init, LlamaBackend::init_numa)
        .map_err(|err| Failure::engine(Code::Engine, format!("cannot initialise llama.cpp: {err}"), "report this"))?;
    Ok(BACKEND.get_or_init(|| backend))
}

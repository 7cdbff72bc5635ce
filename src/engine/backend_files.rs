//! GPU backends in files beside the program, such as `libggml-cuda.so` (docs/gpu.md). They are loaded once, before llama.cpp
//! starts.

use std::path::PathBuf;
use std::sync::OnceLock;

/// A file that was found, and why it cannot be used, if so.
#[derive(Debug)]
pub(crate) struct BackendFile {
    /// Its path.
    pub(crate) path: PathBuf,
    /// `Err` has the reason in one line.
    pub(crate) loaded: Result<(), String>,
}

/// Loads the files of the folder in `TULU_QUANT_BACKENDS`, or of the program's folder, at the first call, and returns them.
/// An empty variable switches them off.
pub(crate) fn backend_files() -> &'static [BackendFile] {
    static FILES: OnceLock<Vec<BackendFile>> = OnceLock::new();
    FILES.get_or_init(|| {
        let Some(folder) = folder() else { return Vec::new() };
        let files = llama_ext::backend_file::find(&folder).into_iter();
        files.map(|path| BackendFile { loaded: llama_ext::backend_file::load(&path), path }).collect()
    })
}

fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("TULU_QUANT_BACKENDS") {
        return (!folder.is_empty()).then(|| PathBuf::from(folder));
    }
    let program = std::env::current_exe().and_then(std::fs::canonicalize).ok()?;
    program.parent().map(PathBuf::from)
}

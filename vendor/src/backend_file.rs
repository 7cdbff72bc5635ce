//! Loads GPU backends of ggml from shared libraries, such as `libggml-vulkan.so`.
//!
//! Such a file has no copy of ggml's core: the program exports those functions (build.rs of the program), and
//! `vendor/backends/CMakeLists.txt` builds the file without them. Both must therefore come from the same sources, which
//! the file's key says.

use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};

/// The key that a file must have: the crate whose sources it was built from. `scripts/build-backend.sh` writes it.
#[must_use]
pub fn key() -> String {
    let version = crate::PIN.lines().find_map(|line| line.strip_prefix("llama-cpp-sys-2 = ")).unwrap_or_default();
    format!("llama-cpp-sys-2 {}", version.trim_matches('"'))
}

/// Returns the backend files in a folder, in the order of their names: `libggml-NAME.so`. Empty if the folder cannot be
/// read, and on systems other than Linux, whose files were never tried.
#[must_use]
pub fn find(folder: &Path) -> Vec<PathBuf> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    let is_backend = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libggml-") && name.ends_with(".so")
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_backend).collect();
    files.sort();
    files
}

/// Loads a backend file and registers its devices with ggml. It stays loaded until the process ends.
///
/// # Errors
///
/// One line that says why the file cannot be used: a library that it needs is missing, it is not a backend file, it was
/// built from other sources, or ggml refuses it.
pub fn load(file: &Path) -> Result<(), String> {
    let path = CString::new(file.as_os_str().as_encoded_bytes()).map_err(|_| "its name has a NUL byte".to_owned())?;
    let library = open(file).map_err(|err| without_path(&reason(&err), file))?;
    {
        // SAFETY: the symbol, where it exists, is this function of vendor/backends/CMakeLists.txt.
        let found = unsafe { library.get::<unsafe extern "C" fn() -> *const c_char>(b"tulu_quant_backend_key\0") };
        let theirs = found.map_err(|_| "it was not built by scripts/build-backend.sh".to_owned())?;
        // SAFETY: takes no arguments, returns a static NUL-terminated string.
        let theirs = unsafe { CStr::from_ptr(theirs()) }.to_string_lossy();
        if theirs != key() {
            return Err(format!("it was built from {theirs}, this program from {}", key()));
        }
    }
    // ggml opens the file again, which gives the same library, and never closes it.
    // SAFETY: `path` is a NUL-terminated string that lives through the call.
    let backend = unsafe { sys::ggml_backend_load(path.as_ptr()) };
    if backend.is_null() { Err("ggml refuses it".to_owned()) } else { Ok(()) }
}

/// Opens the file with all its symbols resolved, so that a missing one is an error here and not at its first use.
#[cfg(unix)]
fn open(file: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: runs the initialisers of the file. They are those of ggml's backend and of the GPU's driver; whoever can put
    // another file beside the program can replace the program too.
    unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

#[cfg(not(unix))]
fn open(file: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: as above.
    unsafe { libloading::Library::new(file) }
}

/// The text of dlerror.
fn reason(err: &libloading::Error) -> String {
    let inner = std::error::Error::source(err).map(ToString::to_string);
    inner.unwrap_or_else(|| err.to_string())
}

/// dlerror begins with the path of the file that it is about. That of the backend file itself is known.
fn without_path(text: &str, file: &Path) -> String {
    let text = text.strip_prefix(&format!("{}: ", file.display())).unwrap_or(text);
    text.lines().next().unwrap_or_default().to_owned()
}

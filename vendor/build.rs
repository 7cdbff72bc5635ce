//! Compiles the C++ shim against the headers of the llama.cpp that llama-cpp-sys-2 has just built.
//!
//! `DEP_LLAMA_ROOT` is that crate's OUT_DIR; CMake's cache in it names the source folder, which has the private header
//! `src/llama-ext.h` that bindgen does not see.

#![allow(clippy::panic, reason = "a build script says what is wrong by panicking")]

use std::path::{Path, PathBuf};

fn main() {
    let Ok(root) = std::env::var("DEP_LLAMA_ROOT") else {
        panic!("llama-cpp-sys-2 did not tell where it was built (DEP_LLAMA_ROOT): is its version the pinned one?")
    };
    let source = llama_cpp_source(Path::new(&root));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(source.join("include"))
        .include(source.join("src"))
        .include(source.join("ggml/include"))
        .file("llama_ext.cpp")
        .compile("llama_ext");
    println!("cargo:rerun-if-changed=llama_ext.cpp");
    println!("cargo:rerun-if-changed=llama.cpp.toml");
    println!("cargo:rerun-if-env-changed=DEP_LLAMA_ROOT");
}

/// The llama.cpp source folder, from CMake's cache of the build in `root`.
fn llama_cpp_source(root: &Path) -> PathBuf {
    let cache = root.join("build/CMakeCache.txt");
    let Ok(text) = std::fs::read_to_string(&cache) else { panic!("cannot read {}", cache.display()) };
    let Some(home) = text.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL=")) else {
        panic!("{} does not name CMAKE_HOME_DIRECTORY", cache.display())
    };
    PathBuf::from(home)
}

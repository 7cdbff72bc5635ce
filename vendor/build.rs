//! Compiles the C++ shim and the attention against the headers of the llama.cpp that llama-cpp-sys-2 has just built.
//!
//! `DEP_LLAMA_ROOT` is that crate's OUT_DIR; CMake's cache in it names the source folder, which has the private header
//! `src/llama-ext.h` that bindgen does not see.

#![allow(clippy::panic, reason = "a build script says what is wrong by panicking")]

use std::path::{Path, PathBuf};

/// The paths of the matrix products: library, file, and the instruction sets it is compiled for. A file is empty where the
/// compiler does not know them or the processor is of another kind.
const PATHS: &[(&str, &str, &[&str])] = &[
    (
        "llama_ext_avx512_vnni",
        "matmul/avx512_vnni.cpp",
        &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma", "-mf16c"],
    ),
    ("llama_ext_avx_vnni", "matmul/avx_vnni.cpp", &["-mavx2", "-mfma", "-mf16c", "-mavxvnni"]),
    ("llama_ext_avx2", "matmul/avx2.cpp", &["-mavx2", "-mfma", "-mf16c"]),
];

/// Compiled as llama.cpp itself is.
const SOURCES: &[&str] = &[
    "accel_device.cpp",
    "attention.cpp",
    "cpu_check.cpp",
    "cpu_features.cpp",
    "kernel_checks.cpp",
    "matmul/matmul.cpp",
    "tensor_types.cpp",
];

/// What else the result depends on.
const HEADERS: &[&str] = &["accel_device.h", "attention.h", "copy_text.h", "matmul", "simd16.h"];

fn main() {
    let Ok(root) = std::env::var("DEP_LLAMA_ROOT") else {
        panic!("llama-cpp-sys-2 did not tell where it was built (DEP_LLAMA_ROOT): is its version the pinned one?")
    };
    let source = llama_cpp_source(Path::new(&root));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).opt_level(3);
    for folder in ["include", "src", "ggml/include", "ggml/src"] {
        build.include(source.join(folder));
    }
    // As llama.cpp itself is built: for this machine where Rust is, and with OpenMP.
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    // What llama-cpp-sys-2 links is GNU's, and only for targets of GNU's libc.
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.contains("gnu") && build.get_compiler().is_like_gnu() {
        build.flag_if_supported("-fopenmp");
    }
    let path = build.clone();
    if flags.contains("target-cpu=native") {
        build.flag_if_supported("-march=native");
    }
    build.files(SOURCES);
    build.compile("llama_ext");
    // Each path has its own instruction set, whatever the rest is built for; which one runs is chosen at run time.
    for (name, file, instructions) in PATHS {
        let mut path = path.clone();
        // GCC 12 loses the stores of some columns otherwise (-O3, SLP vectorizer); the tests of every type would see it.
        path.file(file).flag_if_supported("-fno-strict-aliasing");
        for flag in *instructions {
            path.flag_if_supported(flag);
        }
        path.compile(name);
    }
    for file in SOURCES.iter().chain(HEADERS) {
        println!("cargo:rerun-if-changed={file}");
    }
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

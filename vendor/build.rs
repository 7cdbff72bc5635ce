//! Compiles the C++ files with the headers of the llama.cpp that llama-cpp-sys-2 has just built.
//!
//! `DEP_LLAMA_ROOT` is the OUT_DIR of that crate. CMake's cache in it has the path of the source folder, whose private
//! file `src/llama-quant.cpp` is needed.

#![allow(clippy::panic, reason = "a build script reports errors by panicking")]

use std::path::{Path, PathBuf};

/// The paths of the matrix products: library, file, and the flags of its instruction set. If the compiler does not
/// support the instructions, or on another architecture, the file defines no kernels.
const PATHS: &[(&str, &str, &[&str])] = &[
    (
        "llama_ext_amx_bf16",
        "matmul/amx_bf16.cpp",
        &[
            "-mavx512f",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx512vl",
            "-mavx512bf16",
            "-mfma",
            "-mf16c",
            "-mamx-tile",
            "-mamx-bf16",
        ],
    ),
    (
        "llama_ext_amx_emulated",
        "matmul/amx_emulated.cpp",
        &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"],
    ),
    (
        "llama_ext_avx512_vnni",
        "matmul/avx512_vnni.cpp",
        &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma", "-mf16c"],
    ),
    ("llama_ext_avx_vnni", "matmul/avx_vnni.cpp", &["-mavx2", "-mfma", "-mf16c", "-mavxvnni"]),
    (
        "llama_ext_avx_vnni_evex",
        "matmul/avx_vnni.cpp",
        &["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512vl", "-mavx512vnni", "-DTULU_EVEX"],
    ),
    ("llama_ext_avx2", "matmul/avx2.cpp", &["-mavx2", "-mfma", "-mf16c"]),
    ("llama_ext_neon_dotprod", "matmul/neon_dotprod.cpp", &["-march=armv8.2-a+dotprod"]),
];

/// Source files that are compiled for the same machine as llama.cpp.
const SOURCES: &[&str] = &[
    "accel_device.cpp",
    "attention/attention.cpp",
    "attention/visible_cells.cpp",
    "cpu_check.cpp",
    "cpu_features.cpp",
    "devices.cpp",
    "kernel_checks.cpp",
    "matmul/matmul.cpp",
    "peak.cpp",
    "tensor_types.cpp",
];

/// Headers that they include, and the folder of the paths.
const HEADERS: &[&str] = &["accel_device.h", "attention", "copy_text.h", "matmul", "scratch.h", "simd16.h"];

fn main() {
    let Ok(root) = std::env::var("DEP_LLAMA_ROOT") else {
        panic!("DEP_LLAMA_ROOT is not set by llama-cpp-sys-2: is its version the pinned one?")
    };
    let source = llama_cpp_source(Path::new(&root));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).opt_level(3);
    for folder in ["include", "src", "ggml/include", "ggml/src"] {
        build.include(source.join(folder));
    }
    // As for llama.cpp: native code if Rust has it, and OpenMP.
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    // llama-cpp-sys-2 links GNU's OpenMP, and only on targets with GNU's libc.
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
    // Each path is compiled for its own instruction set. The path for the CPU is chosen at run time.
    for (name, file, instructions) in PATHS {
        let mut path = path.clone();
        // Without this flag GCC 12 (-O3, SLP vectorizer) removes the stores of some columns; tests/matmul.rs fails.
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

/// Returns the source folder of llama.cpp, from CMake's cache of the build in `root`.
fn llama_cpp_source(root: &Path) -> PathBuf {
    let cache = root.join("build/CMakeCache.txt");
    let Ok(text) = std::fs::read_to_string(&cache) else { panic!("cannot read {}", cache.display()) };
    let Some(home) = text.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL=")) else {
        panic!("{} has no CMAKE_HOME_DIRECTORY", cache.display())
    };
    PathBuf::from(home)
}

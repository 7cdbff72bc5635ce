//! Records the revision and the llama.cpp pin that `--version` and `doctor` print. Warns when llama.cpp is built without
//! the SIMD instructions of this machine.

use std::path::Path;
use std::process::Command;

fn main() {
    let revision = git(&["rev-parse", "--short=10", "HEAD"]);
    println!("cargo:rustc-env=TULU_QUANT_REVISION={}", revision.as_deref().unwrap_or("no git"));
    let pin = std::fs::read_to_string("vendor/llama.cpp.toml").unwrap_or_default();
    let field = |key: &str| {
        let line = pin.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('=')).unwrap_or("?");
        line.trim().trim_matches('"').to_owned()
    };
    println!("cargo:rustc-env=TULU_QUANT_PIN=ggml {}, llama-cpp-sys-2 {}", field("ggml"), field("llama-cpp-sys-2"));
    // Every commit and checkout is written to this log. A path that does not exist would make each build dirty.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
    // Backend files (vendor/backends) take ggml's functions from the program. A plain executable exports none.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=ggml_*");
    }
    println!("cargo:rerun-if-changed=vendor/llama.cpp.toml");
    println!("cargo:rerun-if-changed=build.rs");

    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !flags.contains("target-cpu=") {
        println!(
            "cargo:warning=built without target-cpu=native, llama.cpp runs several times slower: unset RUSTFLAGS so that \
             .cargo/config.toml applies, or add -C target-cpu=native to it"
        );
    }
}

/// Returns what a git command prints; `None` without git or outside of a repository.
fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

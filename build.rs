//! Records what `--version` and `doctor` print, and warns when llama.cpp is being built without this machine's SIMD.

use std::process::Command;

fn main() {
    let git = Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output();
    let revision =
        git.ok().filter(|out| out.status.success()).map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    println!("cargo:rustc-env=TULU_QUANT_REVISION={}", revision.as_deref().unwrap_or("no git"));
    let pin = std::fs::read_to_string("vendor/llama.cpp.toml").unwrap_or_default();
    let field = |key: &str| {
        let line = pin.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_prefix('=')).unwrap_or("?");
        line.trim().trim_matches('"').to_owned()
    };
    println!("cargo:rustc-env=TULU_QUANT_PIN=ggml {}, llama-cpp-sys-2 {}", field("ggml"), field("llama-cpp-sys-2"));
    println!("cargo:rerun-if-changed=vendor/llama.cpp.toml");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    println!("cargo:rerun-if-changed=build.rs");

    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !flags.contains("target-cpu=") {
        println!(
            "cargo:warning=built without target-cpu=native, llama.cpp runs several times slower: unset RUSTFLAGS so that \
             .cargo/config.toml applies, or add -C target-cpu=native to it"
        );
    }
}

//! The workaround for GCC's AMX miscompilation (README.md), tested on the assembly that the local compiler makes of
//! ggml's pattern. The CPU does not need AMX, because the code is not run.
use std::path::Path;
use std::process::Command;

/// As in ggml/src/ggml-cpu/amx/mmq.cpp: a configuration on the stack, filled, loaded, used.
const PATTERN: &str = r"
#include <immintrin.h>
#include <cstdint>
struct config { uint8_t palette = 0, start = 0, reserved[14] = {0}; uint16_t colsb[16] = {0}; uint8_t rows[16] = {0}; };
void set() {
    config c;
    c.palette = 1;
    c.rows[0] = 11; c.rows[1] = 13; c.colsb[0] = 48;
    _tile_loadconfig(&c);
    _tile_zero(0);
}";

#[test]
fn whole_tile_configuration_is_stored_before_it_is_loaded() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, assembly) = (dir.join("amx.cpp"), dir.join("amx.s"));
    std::fs::write(&source, PATTERN).expect("the target folder can be written");
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("cmake/amx_tile_config.h");
    let compiled = Command::new("c++")
        .args(["-O3", "-march=sapphirerapids", "-S", "-include"])
        .args([header.as_path(), &source])
        .arg("-o")
        .arg(&assembly)
        .status()
        .expect("llama.cpp was built, so there is a C++ compiler");
    assert!(compiled.success());
    let text = std::fs::read_to_string(&assembly).expect("the compiler wrote it");
    let before = text.split("ldtilecfg").next().expect("split gives one part at least");
    assert!(before.len() < text.len(), "no ldtilecfg in\n{text}");
    // the two row counts, as bytes or together as the word 13 << 8 | 11
    assert!(
        (before.contains("$11") && before.contains("$13")) || before.contains("$3339"),
        "rows are not stored:\n{text}"
    );
}

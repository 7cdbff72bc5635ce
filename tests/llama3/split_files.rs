//! Models in parts, as llama-gguf-split writes them, run like whole files.

use crate::support::bpe::small;
use crate::support::gguf::GgufFile;
use crate::support::{assert_error, assert_success, run, tulu_quant};
use std::fs;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::Value;

/// Writes `file` in `n` parts to `dir`; the first part has no tensors, as with `--no-tensor-first-split`.
pub(crate) fn split(file: &GgufFile, dir: &Path, n: u16) -> Vec<PathBuf> {
    let total = file.tensors.len();
    let part = |no: u16| {
        let mut part = if no == 0 { file.clone() } else { GgufFile::default() };
        let of = |no: u16| total * usize::from(no.saturating_sub(1)) / usize::from(n - 1);
        part.tensors = if no == 0 { Vec::new() } else { file.tensors[of(no)..of(no + 1)].to_vec() };
        part.put("split.no", Value::U16(no)).put("split.count", Value::U16(n));
        part.put("split.tensors.count", Value::I32(i32::try_from(total).unwrap()));
        let path = dir.join(format!("small-Q8_0-{:05}-of-{n:05}.gguf", no + 1));
        part.write(&path);
        path
    };
    (0..n).map(part).collect()
}

#[test]
fn any_part_stands_for_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let file = small();
    let whole = dir.path().join("small.gguf");
    file.write(&whole);
    let parts = split(&file, dir.path(), 3);
    let answer = |model: &Path| {
        let output = run(tulu_quant().arg("chat").arg(model).args(["-p", "Hi", "-n", "6", "--temp", "0"]), b"");
        assert_success(&output);
        output.stdout
    };
    let expected = answer(&whole);
    for part in &parts {
        assert_eq!(answer(part), expected, "{}", part.display());
    }
    // a part that is missing is named
    fs::rename(&parts[1], dir.path().join("elsewhere.gguf")).unwrap();
    let output = run(tulu_quant().arg("chat").arg(&parts[0]).args(["-p", "Hi"]), b"");
    assert_error(&output, 2, "GGUF", &["small-Q8_0-00002-of-00003.gguf: is missing: it is part 2 of 3"]);
    let output = run(tulu_quant().arg("chat").arg(dir.path().join("elsewhere.gguf")).args(["-p", "Hi"]), b"");
    assert_error(&output, 2, "GGUF", &["is part 2 of 3 of a split file; its name must end in -00002-of-00003.gguf"]);
}

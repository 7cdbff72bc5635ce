//! `imatrix`, and `convert --imatrix auto`.

use super::{command, model, text};
use crate::support::{assert_error, assert_success, checkpoint, run, stderr, tulu_quant};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tulu_quantize::gguf::Gguf;
use tulu_quantize::{Imatrix, ImatrixSums};

fn make(folder: &Path, text: &str, name: &str) -> std::path::PathBuf {
    let file = folder.join(format!("{name}.txt"));
    fs::write(&file, text).unwrap();
    let out = folder.join(format!("{name}.gguf"));
    let mut imatrix = command("imatrix", folder);
    assert_success(&run(imatrix.arg(model("BF16")).arg("-f").arg(&file).arg("-o").arg(&out).args(["-c", "128"]), b""));
    out
}

#[test]
fn files_are_merged_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let text = text();
    let (one, other) = text.split_at(text.len() / 2);
    let [one, other] = [(one, "one"), (other, "other")].map(|(text, name)| make(folder.path(), text, name));
    let both = folder.path().join("both.gguf");
    let mut merge = command("imatrix", folder.path());
    merge.arg("--in-file").arg(&one).arg("--in-file").arg(&other).arg("-o").arg(&both).args(["-c", "128"]);
    assert_success(&run(&mut merge, b""));
    let [one, other, both_sums] = [&one, &other, &both].map(|file| ImatrixSums::read(file, 128).unwrap());
    assert_eq!(both_sums.datasets.len(), 2);
    assert_eq!(both_sums.entries.len(), 6 * 7);
    assert_eq!(both_sums.chunk_count(), one.chunk_count() + other.chunk_count());
    for (name, sums) in &both_sums.entries {
        let [a, b] = [&one, &other].map(|from| &from.entries[name]);
        assert_eq!(sums.counts[0], a.counts[0] + b.counts[0]);
        for ((sum, a), b) in sums.values.iter().zip(&a.values).zip(&b.values) {
            assert_eq!(*sum, a + b);
        }
    }
    assert_eq!(Imatrix::read(&both).unwrap().entries.len(), 42);
    // Without --force an existing file stays.
    let output = run(command("imatrix", folder.path()).arg(model("BF16")).arg("-o").arg(&both), b"");
    assert_error(&output, 2, "OUTPUT_EXISTS", &["both.gguf", "--force"]);
    let output = run(command("imatrix", folder.path()).arg("--show").arg(&both), b"");
    assert_success(&output);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown.lines().count(), 1 + 42 + 2 + 1 + 6, "{shown}");
    let output = run(command("imatrix", folder.path()).arg("--show").arg(model("Q8_0")), b"");
    assert_error(&output, 2, "IMATRIX", &["tulu-tiny-Q8_0.gguf"]);
}

#[test]
fn a_stopped_run_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    fs::write(&file, text().repeat(8)).unwrap();
    let out = folder.path().join("out.gguf");
    let imatrix = |cache: &str| {
        let mut imatrix = command("imatrix", &folder.path().join(cache));
        imatrix.arg(model("Q4_0")).arg("-f").arg(&file).arg("-o").arg(&out).args(["--force"]);
        imatrix
    };
    assert_success(&run(&mut imatrix("whole"), b""));
    let whole = fs::read(&out).unwrap();
    fs::remove_file(&out).unwrap();
    let mut stopped = 0;
    for pause in [150, 300, 450] {
        let mut child = imatrix("stopped").stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        if child.try_wait().unwrap().is_none() {
            std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
            stopped += usize::from(child.wait().unwrap().code() == Some(143));
        }
    }
    let output = run(&mut imatrix("stopped"), b"");
    assert_success(&output);
    assert!(fs::read(&out).unwrap() == whole, "{stopped} runs were stopped\n{}", stderr(&output));
}

#[test]
fn convert_makes_an_importance_matrix_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let convert = |args: &[&str]| {
        let mut convert = tulu_quant();
        convert.env("TULU_QUANT_CACHE", folder.path().join("cache")).arg("convert").arg(checkpoint::bundled());
        run(convert.args(["-q", "Q4_0", "--force", "-o"]).arg(folder.path().join("out.gguf")).args(args), b"")
    };
    let first = convert(&["--imatrix", "auto"]);
    assert_success(&first);
    assert!(stderr(&first).contains("Computing an importance matrix"), "{}", stderr(&first));
    let made = fs::read(folder.path().join("out.gguf")).unwrap();
    let second = convert(&["--imatrix", "auto"]);
    assert_success(&second);
    assert!(!stderr(&second).contains("Computing an importance matrix"), "{}", stderr(&second));
    assert!(fs::read(folder.path().join("out.gguf")).unwrap() == made);
    let gguf = Gguf::open(&folder.path().join("out.gguf")).unwrap();
    assert_eq!(gguf.str("quantize.imatrix.dataset"), Some("tulu-quant calibration text"));
    assert!(gguf.str("quantize.imatrix.file").is_some_and(|file| !file.contains('/')));
    // The matrix is the one that `imatrix` makes with the BF16 file.
    let matrix = folder.path().join("matrix.gguf");
    assert_success(&run(command("imatrix", folder.path()).arg(model("BF16")).arg("-o").arg(&matrix), b""));
    assert_success(&convert(&["--imatrix", matrix.to_str().unwrap()]));
    let named = fs::read(folder.path().join("out.gguf")).unwrap();
    let weights = |bytes: &[u8]| bytes[bytes.len() - 2_900_000..].to_vec();
    assert!(weights(&named) == weights(&made), "the weights depend only on the matrix");
    assert_success(&convert(&[]));
    assert!(weights(&fs::read(folder.path().join("out.gguf")).unwrap()) != weights(&made));
}

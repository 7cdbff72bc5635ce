//! The numbers and the table of `eval`.

use super::{command, json_of, model, text};
use crate::support::{assert_error, assert_success, run, stderr};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn one_table_compares_files_with_the_base() {
    let cache = tempfile::tempdir().unwrap();
    let mut eval = command("eval", cache.path());
    eval.arg("--base").arg(model("BF16")).args([model("Q8_0"), model("Q4_0"), model("BF16")]).args(["--chunks", "6"]);
    let all = json_of(&mut eval);
    assert_eq!([&all["n_ctx"], &all["n_chunks"], &all["n_scored"]], [512, 6, 6 * 255]);
    assert_eq!(all["text"]["name"], "tulu-quant evaluation text");
    let files = all["files"].as_array().unwrap();
    // The base is evaluated once, although it is among the files.
    assert_eq!(files.len(), 3);
    assert_eq!(files[0]["base"], true);
    assert!(files[0]["kl"].is_null());
    let kl = |i: usize| files[i]["kl"]["mean"].as_f64().unwrap();
    assert!(kl(1) > 0.0 && kl(1) < 0.01 && kl(2) > 5.0 * kl(1), "{} {}", kl(1), kl(2));
    for file in &files[1..] {
        let of = |name: &str| file["kl"][name].as_f64().unwrap();
        assert!(of("median") < of("p90") && of("p90") < of("p99") && of("p99") < of("max"), "{file}");
        let top = file["same_top"]["value"].as_f64().unwrap();
        assert!((0.5..1.0).contains(&top), "{file}");
    }
    // One file alone has the same numbers.
    let mut single = command("eval", cache.path());
    single.arg("--base").arg(model("BF16")).arg(model("Q4_0")).args(["--chunks", "6"]);
    let single = json_of(&mut single);
    for key in ["ppl", "kl", "same_top", "p_diff_rms", "ln_ppl_ratio"] {
        assert_eq!(single["files"][1][key], files[2][key], "{key}");
    }
    // Nothing is left in the cache.
    assert_eq!(fs::read_dir(cache.path().join("eval")).unwrap().count(), 0);
}

#[test]
fn a_table_has_speeds_and_markdown_has_its_form() {
    let cache = tempfile::tempdir().unwrap();
    let mut eval = command("eval", cache.path());
    let output = run(eval.arg(model("Q8_0")).args(["--chunks", "2", "-c", "128"]), b"");
    assert_success(&output);
    let table = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    for column in ["file", "size", "bits/weight", "PPL", "pp t/s", "tg t/s", "memory"] {
        assert!(lines[0].contains(column), "{table}");
    }
    assert!(lines[1].starts_with("tulu-tiny-Q8_0") && lines[1].contains("5.9 MB"), "{table}");
    let mut eval = command("eval", cache.path());
    let output = run(eval.arg(model("Q8_0")).args(["--chunks", "2", "-c", "128", "--markdown", "--no-speed"]), b"");
    assert_success(&output);
    let markdown = String::from_utf8(output.stdout).unwrap();
    assert!(
        markdown.starts_with("| file | size | bits/weight | PPL | memory |\n|---|--:|--:|--:|--:|\n| tulu-tiny-Q8_0")
    );
}

#[test]
fn what_cannot_be_evaluated_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let eval = || command("eval", folder.path());
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let short = file("short.txt", b"A few words.");
    let output = run(eval().arg(model("Q8_0")).arg("-f").arg(&short), b"");
    assert_error(&output, 2, "TEXT_TOO_SHORT", &["short.txt", "tokens, less than one chunk of 512", "smaller -c"]);
    let latin = file("latin1.txt", b"caf\xe9 ".repeat(2000).as_slice());
    let output = run(eval().arg(model("Q8_0")).arg("-f").arg(&latin), b"");
    assert_error(&output, 2, "ENCODING", &["latin1.txt", "not UTF-8 at byte 3"]);
    let empty = file("empty.txt", b"\n");
    assert_error(&run(eval().arg(model("Q8_0")).arg("-f").arg(&empty), b""), 2, "EMPTY", &["empty.txt"]);
    let output = run(eval().arg(model("Q8_0")).args(["-f", "missing.txt"]), b"");
    assert_error(&output, 2, "IO", &["missing.txt"]);
    // A model with NaN in a scale: the last bytes of the file are weights.
    let mut bytes = fs::read(model("Q8_0")).unwrap();
    let end = bytes.len() - 34 * 1000;
    bytes[end..end + 34 * 900].chunks_mut(34).for_each(|block| block[..2].copy_from_slice(&[0xff, 0x7f]));
    let broken = file("broken.gguf", &bytes);
    let output = run(eval().arg(&broken).args(["--chunks", "1"]), b"");
    assert_error(&output, 2, "NAN", &["broken.gguf", "NaN or infinity in chunk 1"]);
    // Another vocabulary: one token has another text.
    let mut bytes = fs::read(model("Q8_0")).unwrap();
    let at = bytes.windows(9).position(|window| window == b"\xe2\x96\x81capital".get(..9).unwrap()).unwrap();
    bytes[at + 3] = b'q';
    let other = file("other.gguf", &bytes);
    let output = run(eval().arg("--base").arg(model("BF16")).arg(&other), b"");
    assert_error(&output, 2, "VOCABULARY", &["other.gguf", "another vocabulary than", "tulu-tiny-BF16.gguf"]);
}

#[test]
fn a_killed_run_resumes_to_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    fs::write(&file, text().repeat(2)).unwrap();
    let cache = folder.path().join("cache");
    let eval = || {
        let mut eval = command("eval", &cache);
        eval.arg("--base").arg(model("BF16")).arg(model("Q4_0")).arg("-f").arg(&file);
        eval
    };
    let whole = json_of(&mut eval());
    let journal = || {
        let first = fs::read_dir(cache.join("eval")).ok()?.next()?.ok()?.path();
        Some(fs::metadata(first).ok()?.len())
    };
    let mut resumed = 0;
    for _ in 0..3 {
        let mut child =
            eval().args(["--json", "--no-speed"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let before = journal().unwrap_or(0);
        while child.try_wait().unwrap().is_none() && journal().unwrap_or(0) <= before.max(1000) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        let _ = child.wait();
        resumed += usize::from(journal().is_some());
    }
    assert!(resumed > 0, "no run was killed before it was finished");
    assert_eq!(json_of(&mut eval()), whole);
}

#[test]
fn a_stopped_run_keeps_finished_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    fs::write(&file, text().repeat(20)).unwrap();
    let cache = folder.path().join("cache");
    let mut eval = command("eval", &cache);
    let mut child =
        eval.arg(model("Q4_0")).arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = || fs::read_dir(cache.join("eval")).is_ok_and(|mut files| files.next().is_some());
    while !begun() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_error(&output, 143, "INTERRUPTED", &["stopped by SIGTERM"]);
    assert!(begun(), "{}", stderr(&output));
}

//! What `convert` checks on the way and what it says of a request, from outside: weights that a type cannot hold, hashes
//! that are known, options without effect, names of outputs, and machines that lack threads or /proc.

use crate::support::{last_line, run, tulu_quant};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A copy of the bundled checkpoint called `source`, beside an empty folder for outputs.
fn copy() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("source"), dir.path().join("out"));
    fs::create_dir_all(&source).unwrap();
    fs::create_dir_all(&out).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, source.join(path.file_name().unwrap())).unwrap();
        }
    }
    (dir, source, out)
}

fn convert(source: &Path, out: &Path, args: &[&str]) -> Output {
    run(tulu_quant().arg("convert").arg(source).arg("-o").arg(out).args(args), b"")
}

fn listing(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// The one line of an error.
fn refused(output: &Output, exit: i32, code: &str, said: &[&str]) {
    let line = last_line(output);
    assert_eq!(output.status.code(), Some(exit), "{line}");
    assert!(line.starts_with(&format!("tulu-quant: error[{code}]: ")), "{line}");
    said.iter().for_each(|part| assert!(line.contains(part), "'{part}' is not in: {line}"));
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// Sets a weight of a BF16 checkpoint, and names the file it is in.
fn set(dir: &Path, tensor: &str, row: usize, column: usize, value: f32) -> &'static str {
    for file in SHARDS {
        let path = dir.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        let Some(entry) = header.get(tensor) else { continue };
        let columns = entry["shape"][1].as_u64().unwrap() as usize;
        let at = 8 + n + entry["data_offsets"][0].as_u64().unwrap() as usize + 2 * (row * columns + column);
        bytes[at..at + 2].copy_from_slice(&value.to_bits().to_le_bytes()[2..]);
        fs::write(path, bytes).unwrap();
        return file;
    }
    panic!("no {tensor}")
}

const TYPES: &str =
    "F16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K";

#[test]
fn a_weight_that_the_type_cannot_hold_is_an_error_with_its_place_and_no_file() {
    let up = "model.layers.3.mlp.up_proj.weight";
    // (tensor, row, column, value, types): 70000 is too much for a half float, 1e38 for the scale of every block
    let mut cases =
        vec![(up, 5, 7, 70000.0_f32, "F16"), ("model.layers.1.self_attn.q_proj.weight", 3, 9, 1e20, "Q8_0")];
    cases.extend(TYPES.split(' ').map(|name| (up, 2, 250, -1e38, name)));
    cases.push(("model.layers.2.self_attn.k_proj.weight", 6, 0, 3e19, "BF16,F32,Q4_0"));
    for (tensor, row, column, value, types) in cases {
        let (_dir, source, out) = copy();
        let file = set(&source, tensor, row, column, value);
        let place = format!("row {row}, column {column}, ");
        let output = convert(&source, &out, &["-q", types]);
        refused(&output, 2, "TENSOR_VALUE", &[file, tensor, &place, "cannot hold"]);
        assert!(listing(&out).is_empty(), "{types} left {:?}", listing(&out));
    }
    // what a type can hold is no error
    let (_dir, source, out) = copy();
    set(&source, up, 5, 7, 70000.0);
    done(&convert(&source, &out, &["-q", "BF16,F32,Q8_0,Q4_K_M,Q2_K"]));
    // and the same of a GGUF file, and by ggml's kernels
    let lossless = out.join("source-BF16.gguf");
    for args in [&["-q", "F16"][..], &["-q", "F16", "--reference-kernels"]] {
        let again = out.join("again");
        let output = convert(&lossless, &again, args);
        refused(&output, 2, "TENSOR_VALUE", &["source-BF16.gguf", "blk.3.ffn_up.weight", "row 5, column 7"]);
        assert!(listing(&again).is_empty());
    }
}

/// The shared cache's layout: weight files are links to files that are named by their sha256.
fn cached(source: &Path, dir: &Path) -> PathBuf {
    let root = dir.join("models--allenai--tulu-2-7b");
    let (snapshot, blobs) = (root.join("snapshots").join("0123456789".repeat(4)), root.join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    for name in listing(source) {
        let bytes = fs::read(source.join(&name)).unwrap();
        if name.ends_with(".safetensors") {
            let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            fs::write(blobs.join(&hash), bytes).unwrap();
            symlink(format!("../../blobs/{hash}"), snapshot.join(&name)).unwrap();
        } else {
            fs::write(snapshot.join(name), bytes).unwrap();
        }
    }
    snapshot
}

fn metadata(gguf: &Path) -> Value {
    let shown = run(tulu_quant().args(["inspect", "--json"]).arg(gguf), b"");
    serde_json::from_slice::<Value>(&shown.stdout).unwrap()["metadata"].take()
}

/// Turns the lowest bit of a weight: any number is a number.
fn damage(path: &Path) {
    let path = fs::canonicalize(path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = (bytes.len() / 2) & !1;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_hash_that_the_folder_tells_is_checked_before_a_file_has_its_name() {
    let (dir, source, out) = copy();
    let snapshot = cached(&source, dir.path());
    done(&convert(&snapshot, &out, &["-q", "Q4_K_M"]));
    let hashes = &metadata(&out.join("tulu-2-7b-Q4_K_M.gguf"))["tulu_quant.source.sha256"];
    let link = fs::read_link(snapshot.join(SHARDS[0])).unwrap();
    assert_eq!(hashes[0].as_str(), link.file_name().unwrap().to_str());
    for shard in SHARDS {
        damage(&snapshot.join(shard));
        let output = convert(&snapshot, &out.join("again"), &["-q", "Q4_K_M,Q8_0"]);
        refused(&output, 3, "SHA256", &[shard, "download it again"]);
        assert!(listing(&out.join("again")).is_empty());
        damage(&snapshot.join(shard)); // and right again
    }
    done(&convert(&snapshot, &out.join("again"), &["-q", "Q8_0"]));
}

#[test]
fn a_hash_beside_a_download_is_checked_unless_the_file_was_written_since() {
    let (_dir, source, out) = copy();
    let kept = source.join(".cache/huggingface/download");
    fs::create_dir_all(&kept).unwrap();
    let note = |time: u64| {
        fs::write(kept.join(format!("{}.metadata", SHARDS[0])), {
            format!("{}\n{}\n{time}.5\n", "0123456789".repeat(4), "ab".repeat(32))
        })
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    note(now + 60).unwrap();
    let output = convert(&source, &out, &["-q", "Q8_0"]);
    refused(&output, 3, "SHA256", &[SHARDS[0], &"ab".repeat(32)]);
    note(now - 600).unwrap();
    done(&convert(&source, &out, &["-q", "Q8_0"]));
    let shown = metadata(&out.join("source-Q8_0.gguf"));
    assert_eq!(shown.get("tulu_quant.source.sha256"), None, "a hash that was not checked is not recorded");
}

/// An importance matrix in llama-imatrix's older format, with `columns` ones for each name.
fn imatrix(path: &Path, entries: &[(String, usize, f32)]) {
    let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, columns, value) in entries {
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1_i32.to_le_bytes());
        bytes.extend((*columns as i32).to_le_bytes());
        (0..*columns).for_each(|_| bytes.extend(value.to_le_bytes()));
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_of_a_request_has_no_effect_is_refused_or_said() {
    let (dir, source, out) = copy();
    let file = dir.path().join("m.dat");
    let matrix = file.to_str().unwrap();
    let first = "blk.0.attn_v.weight".to_owned();
    let columns = 256;
    for (entries, said) in [
        (vec![("model.layers.0.nothing".to_owned(), 4, 1.0)], "none for a tensor of this model"),
        (vec![(first.clone(), columns, 1e30)], "outside 0 to 1e15"),
        (vec![(first.clone(), columns, -1.0)], "outside 0 to 1e15"),
        (vec![(first.clone(), 3, 1.0)], "has 3 weights"),
    ] {
        imatrix(&file, &entries);
        refused(&convert(&source, &out, &["--imatrix", matrix, "--dry-run"]), 2, "IMATRIX", &[said]);
    }
    imatrix(&file, &[(first.clone(), columns, 1.0), ("blk.99.attn_v.weight".to_owned(), 4, 1.0)]);
    let args = ["--imatrix", matrix, "--tensor-type", "nosuch=q8_0", "--tensor-type", "attn_norm=q8_0"];
    let output = convert(&source, &out, &[&args[..], &["--tensor-type", "attn_v=q6_K"]].concat());
    done(&output);
    let said = stderr(&output);
    let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("tulu-quant: note: ")).collect();
    for part in [
        "m.dat has no entry for ",
        "m.dat has 1 entries for no matrix of this model: blk.99.attn_v.weight",
        "the pattern 'nosuch' of type q8_0 finds no matrix",
        "the pattern 'attn_norm' of type q8_0 finds no matrix",
    ] {
        assert!(notes.iter().any(|note| note.contains(part)), "'{part}' is not in {said}");
    }
    assert!(!said.contains("'attn_v'"), "{said}");
}

/// The types of attn_v and ffn_up in a plan with these patterns.
fn planned(source: &Path, command: &mut Command, patterns: Option<&str>) -> [String; 2] {
    command.arg("convert").arg(source).args(["-q", "Q4_0", "--dry-run", "--json"]);
    if let Some(text) = patterns {
        command.args(["--tensor-type", text]);
    }
    let output = run(command, b"");
    done(&output);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let tensors = plan["outputs"][0]["tensors"].as_array().unwrap().clone();
    ["blk.0.attn_v.weight", "blk.0.ffn_up.weight"]
        .map(|name| tensors.iter().find(|t| t["name"] == name).unwrap()["type"].as_str().unwrap().to_owned())
}

#[test]
fn patterns_may_have_commas_and_a_list_of_pairs_is_still_one() {
    let (_dir, source, _out) = copy();
    for (text, wanted) in [
        ("blk\\.[0-9]{1,2}\\.attn_v=q8_0", ["q8_0", "q4_0"]),
        ("attn_v=q8_0,ffn_up=q6_K", ["q8_0", "q6_K"]),
        ("blk\\.[0-9]{1,2}\\.attn_v=q8_0,blk.[0-9]{1,}.ffn_up=q5_1", ["q8_0", "q5_1"]),
    ] {
        assert_eq!(planned(&source, &mut tulu_quant(), Some(text)), wanted, "{text}");
        assert_eq!(planned(&source, tulu_quant().env("TULU_QUANT_TENSOR_TYPE", text), None), wanted, "{text}");
    }
}

#[test]
fn names_of_outputs_and_types_are_taken_as_they_are_meant() {
    let (_dir, source, out) = copy();
    // (-o, -q, files): folders that are missing are made, and {name} stands for the name in a folder too
    for (to, types, files) in [
        ("new/x-{type}.gguf", "Q8_0,Q4_0", &["new/x-Q8_0.gguf", "new/x-Q4_0.gguf"][..]),
        ("my-{name}", "q4_k", &["my-source/source-Q4_K_M.gguf"]),
        ("{name}/{name}-{type}.gguf", "q8_0", &["source/source-Q8_0.gguf"]),
        ("deep/er/{type}/m.gguf", "Q4_K,Q3_K", &["deep/er/Q4_K_M/m.gguf", "deep/er/Q3_K_M/m.gguf"]),
    ] {
        done(&convert(&source, &out.join(to), &["-q", types]));
        files.iter().for_each(|file| assert!(out.join(file).is_file(), "{to}: {file}"));
    }
    let folder = format!("{}:Q8_0", source.display());
    for name in ["tulu-tiny:Q8_0", folder.as_str(), "tulu-2-7b:Q8_0"] {
        refused(&convert(Path::new(name), &out, &[]), 2, "REQUEST", &["-q Q8_0"]);
    }
    for threads in ["0", "1025", "18446744073709551615", "-1"] {
        refused(&convert(&source, &out, &["-t", threads]), 2, "USAGE", &[]);
    }
}

/// Waits for `child` and tells how it ended; a child that hangs is an error.
fn wait(mut child: std::process::Child, what: &str) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("{what}: it hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root, to become a user who may have few threads"]
fn root_threads_that_cannot_be_started_are_done_without() {
    let (dir, source, out) = copy();
    let program = dir.path().join("tulu-quant");
    fs::copy(env!("CARGO_BIN_EXE_tulu-quant"), &program).unwrap();
    [dir.path(), &out].iter().for_each(|d| fs::set_permissions(d, fs::Permissions::from_mode(0o777)).unwrap());
    done(&convert(&source, &out.join("all.gguf"), &["-q", "Q4_K_M"]));
    for limit in 1..=5 {
        let file = out.join(format!("{limit}.gguf"));
        let mut command = Command::new("prlimit");
        command.arg(format!("--nproc={limit}")).arg(&program).arg("convert").arg(&source);
        command.args(["-q", "Q4_K_M", "-t", "16", "-o"]).arg(&file).uid(65534).gid(65534);
        let status = wait(command.stderr(Stdio::null()).spawn().unwrap(), &format!("{limit} processes"));
        assert_eq!(status.code(), Some(0), "{limit} processes");
        assert!(fs::read(file).unwrap() == fs::read(out.join("all.gguf")).unwrap());
    }
}

#[test]
#[ignore = "needs root, to mount something over /proc"]
fn root_without_proc_files_are_made_and_may_be_read_by_others() {
    let (_dir, source, out) = copy();
    let script = "mount -t tmpfs none /proc && umask 022 && exec \"$@\"";
    for force in [false, true] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_tulu-quant"), "convert"]);
        command.arg(&source).args(["-q", "Q8_0,Q4_0", "-o"]).arg(&out).args(force.then_some("--force"));
        done(&run(&mut command, b""));
        assert_eq!(listing(&out), ["source-Q4_0.gguf", "source-Q8_0.gguf"]);
        for name in listing(&out) {
            assert_eq!(fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, 0o644);
        }
    }
}

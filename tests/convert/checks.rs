//! What `convert` checks while it reads: weights that a type cannot represent, and known hashes of the weight files.

use crate::support::checkpoint::{SHARDS, convert, copy, inspect, listing};
use crate::support::{assert_error, assert_success, sha256};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Sets a weight of a BF16 checkpoint. Returns the name of its file.
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
fn weight_out_of_range_is_an_error_with_its_place_and_no_file() {
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
        assert_error(&output, 2, "TENSOR_VALUE", &[file, tensor, &place, "cannot represent"]);
        assert!(listing(&out).is_empty(), "{types} left {:?}", listing(&out));
    }
    // no error for a type that can represent it
    let (_dir, source, out) = copy();
    set(&source, up, 5, 7, 70000.0);
    assert_success(&convert(&source, &out, &["-q", "BF16,F32,Q8_0,Q4_K_M,Q2_K"]));
    // the same with a GGUF file as source, and with ggml's kernels
    let lossless = out.join("source-BF16.gguf");
    for args in [&["-q", "F16"][..], &["-q", "F16", "--reference-kernels"]] {
        let again = out.join("again");
        let output = convert(&lossless, &again, args);
        assert_error(&output, 2, "TENSOR_VALUE", &["source-BF16.gguf", "blk.3.ffn_up.weight", "row 5, column 7"]);
        assert!(listing(&again).is_empty());
    }
}

/// Copies `source` into the layout of the shared cache: weight files are links to files named by their SHA-256.
fn cached(source: &Path, dir: &Path) -> PathBuf {
    let root = dir.join("models--allenai--tulu-2-7b");
    let (snapshot, blobs) = (root.join("snapshots").join("0123456789".repeat(4)), root.join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    for name in listing(source) {
        let bytes = fs::read(source.join(&name)).unwrap();
        if name.ends_with(".safetensors") {
            let hash = sha256(&bytes);
            fs::write(blobs.join(&hash), bytes).unwrap();
            symlink(format!("../../blobs/{hash}"), snapshot.join(&name)).unwrap();
        } else {
            fs::write(snapshot.join(name), bytes).unwrap();
        }
    }
    snapshot
}

/// Flips the lowest bit of a weight, so that it stays a finite number.
fn damage(path: &Path) {
    let path = fs::canonicalize(path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = (bytes.len() / 2) & !1;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn known_hash_is_checked_before_a_file_gets_its_name() {
    let (dir, source, out) = copy();
    let snapshot = cached(&source, dir.path());
    assert_success(&convert(&snapshot, &out, &["-q", "Q4_K_M"]));
    let hashes = &inspect(&out.join("tulu-2-7b-Q4_K_M.gguf"))["metadata"]["tulu_quant.source.sha256"];
    let link = fs::read_link(snapshot.join(SHARDS[0])).unwrap();
    assert_eq!(hashes[0].as_str(), link.file_name().unwrap().to_str());
    for shard in SHARDS {
        damage(&snapshot.join(shard));
        let output = convert(&snapshot, &out.join("again"), &["-q", "Q4_K_M,Q8_0"]);
        assert_error(&output, 3, "SHA256", &[shard, "download it again"]);
        assert!(listing(&out.join("again")).is_empty());
        damage(&snapshot.join(shard)); // flips it back
    }
    assert_success(&convert(&snapshot, &out.join("again"), &["-q", "Q8_0"]));
}

#[test]
fn hash_beside_a_download_is_checked_unless_the_file_is_newer() {
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
    assert_error(&output, 3, "SHA256", &[SHARDS[0], &"ab".repeat(32)]);
    note(now - 600).unwrap();
    assert_success(&convert(&source, &out, &["-q", "Q8_0"]));
    let shown = inspect(&out.join("source-Q8_0.gguf"))["metadata"].take();
    assert_eq!(shown.get("tulu_quant.source.sha256"), None, "a hash that was not checked is not recorded");
}

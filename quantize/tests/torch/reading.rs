//! PyTorch `.bin` checkpoints convert to the same bytes as safetensors with the same weights. Real PyTorch wrote the
//! files in golden/; fixtures/torch.rs writes the others in the same layout.

use crate::fixtures;
use crate::fixtures::torch::{Pickle, View, bin, member, members, zip};
use crate::support::options;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tulu_quantize::{Checkpoint, Code, Error, Ftype, Plan, QuantizeOptions, Silent, convert};

const BIN: &str = "pytorch_model.bin";

fn try_convert(dir: &Path, to: &Path, types: &[Ftype]) -> Result<Vec<PathBuf>, Error> {
    let source = Checkpoint::open(dir)?;
    fs::create_dir_all(to).unwrap();
    let outputs: Vec<_> = types.iter().map(|t| (*t, to.join(format!("{t}.gguf")))).collect();
    let plan = Plan::new(&source, &outputs, &QuantizeOptions::default())?;
    convert(&source, &plan, options(3), &Silent)?;
    Ok(outputs.into_iter().map(|(_, path)| path).collect())
}

/// Converts both folders, which have the same name, and compares the outputs byte by byte.
fn assert_same(a: &Path, b: &Path, types: &[Ftype]) {
    llama_ext::log::capture(None);
    let out = tempfile::tempdir().unwrap();
    let a = try_convert(a, &out.path().join("a"), types).expect("the one");
    let b = try_convert(b, &out.path().join("b"), types).expect("the other");
    for (a, b) in a.iter().zip(&b) {
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} differs", b.display());
    }
}

/// Two folders called `model`: one for safetensors, one for `.bin` files.
fn roofs() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("safetensors/model"), dir.path().join("bin/model"));
    (dir, a, b)
}

fn both_ways(checkpoint: &fixtures::Checkpoint) {
    let (_dir, a, b) = roofs();
    checkpoint.write(&a);
    checkpoint.write_bin(&b);
    // against_llama_quantize.rs has all types
    assert_same(&a, &b, &[checkpoint.lossless, Ftype::Q4_K_M, Ftype::Q5_1, Ftype::Q8_0]);
}

#[test]
fn bf16_in_three_shards_equals_safetensors() {
    both_ways(&fixtures::Checkpoint { shards: 3, ..Default::default() });
}

#[test]
fn f16_in_two_shards_equals_safetensors() {
    both_ways(&fixtures::Checkpoint { lossless: Ftype::F16, ..Default::default() });
}

#[test]
fn f32_in_one_file_equals_safetensors() {
    both_ways(&fixtures::Checkpoint { lossless: Ftype::F32, shards: 1, ..Default::default() });
}

/// (name, shape, weights)
type Weights = (String, Vec<usize>, Vec<f32>);

/// The shapes and values of golden/make.py.
fn golden() -> (fixtures::Checkpoint, Vec<Weights>) {
    let checkpoint = fixtures::Checkpoint::small(1);
    let tensors = checkpoint.shapes().into_iter().enumerate().map(|(k, (name, shape))| {
        let value = |j: usize| (((j * 7 + k * 31) % 251) as f32 - 125.0) / 64.0;
        let values = (0..shape.iter().product()).map(value).collect();
        (name, shape, values)
    });
    let tensors = tensors.collect();
    (checkpoint, tensors)
}

/// Asserts that the golden file `name` equals safetensors of `dtype` with the same formula, after `change`.
fn assert_golden(name: &str, dtype: Ftype, change: impl FnOnce(&mut Vec<Weights>)) -> Vec<String> {
    let (checkpoint, mut tensors) = golden();
    let checkpoint = fixtures::Checkpoint { lossless: dtype, ..checkpoint };
    change(&mut tensors);
    let (_dir, a, b) = roofs();
    checkpoint.write_beside(&a);
    checkpoint.write_beside(&b);
    let encoded: Vec<fixtures::Tensor> = tensors
        .into_iter()
        .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|x| checkpoint.encode(*x)).collect()))
        .collect();
    fs::write(a.join("model.safetensors"), fixtures::safetensors(checkpoint.dtype(), &encoded)).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    fs::copy(file, b.join(BIN)).unwrap();
    assert_same(&a, &b, &[Ftype::F32, Ftype::F16, Ftype::BF16]);
    Checkpoint::open(&b).unwrap().notes
}

#[test]
fn reads_files_saved_by_transformers() {
    assert_eq!(assert_golden("plain.bin", Ftype::BF16, |_| {}), [""; 0]);
}

#[test]
fn files_without_checksums_are_read_with_a_note() {
    let notes = assert_golden("no-crc.bin", Ftype::F32, |_| {});
    assert_eq!(notes, ["12 storages of pytorch_model.bin have no CRC-32: damage in them cannot be detected"]);
}

#[test]
fn views_of_every_kind_are_read() {
    assert_golden("views.bin", Ftype::F16, |tensors| {
        let at = |name: &str| tensors.iter().position(|(n, ..)| n.ends_with(name)).unwrap();
        let (o, embedding, head) = (at("o_proj.weight"), at("embed_tokens.weight"), at("lm_head.weight"));
        let row = tensors[o].2[16..24].to_vec();
        tensors[o].2 = row.repeat(8);
        tensors[head].2 = tensors[embedding].2.clone();
    });
}

#[test]
fn other_layouts_are_refused_by_name() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec();
    for (bytes, code, text) in [
        (fs::read(golden.join("legacy.bin")).unwrap(), Code::TorchFormat, "legacy layout of before 1.6"),
        (fs::read(golden.join("protocol4.bin")).unwrap(), Code::PickleProtocol, "protocol 4"),
        (tar, Code::TorchFormat, "tar"),
        (lfs, Code::TorchFormat, "Git LFS"),
        (b"<html>".to_vec(), Code::TorchFormat, "web page"),
        (vec![], Code::TorchFormat, "zip"),
        (zip(&[member("archive/version", "3\n")]).bytes, Code::TorchFormat, "data.pkl"),
    ] {
        let err = open_bin(&bytes).unwrap_err();
        assert_eq!(err.code, code, "{err}");
        assert!(err.to_string().contains(text), "{err}");
    }
}

/// Opens the small checkpoint with `bytes` as its weights.
fn open_bin(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let dir = tempfile::tempdir().unwrap();
    golden().0.write_beside(dir.path());
    fs::write(dir.path().join(BIN), bytes).unwrap();
    Checkpoint::open(dir.path())
}

#[test]
fn safetensors_are_preferred_to_bin() {
    let (_dir, a, b) = roofs();
    let checkpoint = fixtures::Checkpoint::default();
    checkpoint.write(&a);
    checkpoint.write(&b);
    fs::write(b.join(BIN), "not even a zip file").unwrap();
    fs::write(b.join("pytorch_model.bin.index.json"), "{}").unwrap();
    assert_same(&a, &b, &[Ftype::BF16]);
}

#[test]
fn index_without_shards_is_ignored() {
    let (_dir, a, b) = roofs();
    let checkpoint = fixtures::Checkpoint::default();
    checkpoint.write(&a);
    checkpoint.write_bin(&b);
    fs::copy(a.join("model.safetensors.index.json"), b.join("model.safetensors.index.json")).unwrap();
    assert_same(&a, &b, &[Ftype::BF16]);
    let notes = Checkpoint::open(&b).unwrap().notes;
    assert_eq!(notes, ["model.safetensors.index.json is present without its shards, so the .bin files are read"]);
    let shard = "model-00002-of-00002.safetensors";
    fs::copy(a.join(shard), b.join(shard)).unwrap();
    assert_eq!(Checkpoint::open(&b).unwrap_err().code, Code::IndexShards);
}

#[test]
fn unused_tensors_may_have_any_type() {
    let (_dir, _, b) = roofs();
    let (checkpoint, _) = golden();
    let tensors = checkpoint.tensors();
    let with = |name: &'static str| {
        let kind = "BFloat16Storage";
        let entries = tensors.iter().enumerate().map(|(i, (n, shape, _))| (n.as_str(), View::whole(kind, i, shape)));
        let mask = View::whole("BoolStorage", tensors.len(), &[1, 1, 4, 4]);
        let pickle = Pickle::state(entries.chain([(name, mask)]));
        let mut storages: Vec<Vec<u8>> = tensors.iter().map(|(.., bytes)| bytes.clone()).collect();
        storages.push(vec![1; 16]);
        zip(&members(&pickle, &storages)).bytes
    };
    let source = open_bin(&with("model.layers.0.attention.bias")).expect("the mask is skipped");
    let plan = Plan::new(&source, &[(Ftype::F16, b.join("out.gguf"))], &QuantizeOptions::default()).unwrap();
    assert_eq!(plan.skipped, ["model.layers.0.attention.bias"]);
    let err = open_bin(&with("model.layers.0.mask")).unwrap_err();
    assert_eq!(err.code, Code::TorchDtype, "{err}");
    assert!(err.to_string().contains("model.layers.0.mask"), "{err}");
}

#[test]
fn index_that_disagrees_with_the_shards_is_refused() {
    let (_dir, _, b) = roofs();
    fixtures::Checkpoint::default().write_bin(&b);
    let index = b.join("pytorch_model.bin.index.json");
    let good: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let refused = |change: &dyn Fn(&mut Value), code: Code, text: &str| {
        let mut json = good.clone();
        change(&mut json["weight_map"]);
        fs::write(&index, json.to_string()).unwrap();
        let err = Checkpoint::open(&b).unwrap_err();
        assert_eq!(err.code, code, "{err}");
        assert!(err.to_string().contains(text), "{err}");
    };
    let norm = "model.norm.weight";
    refused(&|map| map[norm] = json!("../pytorch_model.bin"), Code::IndexPath, "../pytorch_model.bin");
    refused(&|map| map[norm] = json!("model.safetensors"), Code::IndexPath, "model.safetensors");
    refused(&|map| map[norm] = json!("pytorch_model-00001-of-00002.bin"), Code::IndexTensors, norm);
    refused(&|map| map["another"] = map[norm].clone(), Code::IndexTensors, "another");
    refused(&|map| drop(map.as_object_mut().unwrap().remove(norm)), Code::IndexTensors, norm);
    refused(
        &|map| {
            map[norm] = json!("gone-1.bin");
            map["another"] = json!("gone-2.bin");
        },
        Code::IndexShards,
        "2 of 4 shards are missing: gone-1.bin, gone-2.bin",
    );
}

/// Flips a bit at both ends and in the middle of every storage. The weights stay finite, so only the CRC-32 finds it.
#[test]
fn flipped_bit_in_any_storage_is_found_and_nothing_is_written() {
    let (_dir, _, b) = roofs();
    let (checkpoint, _) = golden();
    checkpoint.write_beside(&b);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/views.bin");
    for good in [bin("BF16", &checkpoint.tensors()).bytes, fs::read(golden).unwrap()] {
        let storages = storages(&good);
        assert!(storages.len() >= 8);
        for (name, at, len) in storages {
            for hit in [at, at + len / 4 * 2, at + len - 2] {
                let mut bytes = good.clone();
                bytes[hit] ^= 1;
                fs::write(b.join(BIN), &bytes).unwrap();
                let out = tempfile::tempdir().unwrap();
                match try_convert(&b, out.path(), &[Ftype::F16, Ftype::F32]) {
                    Ok(_) => assert_eq!(len, 16, "{name}: only the mask is not read"),
                    Err(err) => {
                        assert_eq!(err.code, Code::ZipCrc, "{err}");
                        assert!(err.to_string().contains(&name), "{err}");
                        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
                    }
                }
            }
        }
    }
}

/// (name, first byte, length) of the members that hold tensors, found by their signatures.
fn storages(file: &[u8]) -> Vec<(String, usize, usize)> {
    let number = |at: usize, n: usize| file[at..at + n].iter().rev().fold(0, |x, b| x << 8 | usize::from(*b));
    let lines = (0..file.len() - 46).filter(|at| file[*at..].starts_with(b"PK\x01\x02"));
    let all = lines.map(|at| {
        let (len, name, header) = (number(at + 24, 4), number(at + 28, 2), number(at + 42, 4));
        let name = String::from_utf8(file[at + 46..at + 46 + name].to_vec()).unwrap();
        (name, header + 30 + number(header + 26, 2) + number(header + 28, 2), len)
    });
    all.filter(|(name, ..)| name.contains("/data/")).collect()
}

/// Views that are larger than a span or a chunk: a transposed matrix, and elements far apart.
#[test]
fn large_views_are_read_in_pieces() {
    let (_dir, a, b) = roofs();
    let checkpoint = fixtures::Checkpoint { hidden: 1024, ffn: 2048, layers: 1, shards: 1, ..Default::default() };
    checkpoint.write(&a);
    checkpoint.write_beside(&b);
    let tensors = checkpoint.tensors();
    let mut storages = Vec::new();
    let mut entries = Vec::new();
    for (i, (name, shape, bytes)) in tensors.iter().enumerate() {
        let mut view = View::whole("BFloat16Storage", i, shape);
        let element = |at: usize| bytes[2 * at..2 * at + 2].to_vec();
        if name.ends_with("q_proj.weight") || name.ends_with("down_proj.weight") {
            let (rows, columns) = (shape[0], shape[1]);
            let transposed = (0..rows * columns).flat_map(|i| element(i % rows * columns + i / rows));
            storages.push(transposed.collect());
            view.strides = vec![1, rows as i64];
        } else if name.ends_with("gate_proj.weight") {
            view.offset = 3;
            view.numel += 8;
            storages.push([vec![0x55; 6], bytes.clone(), vec![0x55; 10]].concat());
        } else if name.ends_with("model.norm.weight") {
            // 1024 elements apart: twice the longest span
            storages.push((0..shape[0]).flat_map(|at| [element(at), vec![0x55; 2046]].concat()).collect());
            view.numel *= 1024;
            view.strides = vec![1024];
        } else if name.ends_with("up_proj.weight") {
            // rows of 3 times the length, every third element
            let spread: Vec<u8> =
                (0..shape[0] * shape[1]).flat_map(|at| [element(at), vec![1, 2, 3, 4]].concat()).collect();
            view.numel *= 3;
            view.strides = vec![3 * shape[1] as i64, 3];
            storages.push(spread);
        } else {
            storages.push(bytes.clone());
        }
        entries.push((name.as_str(), view));
    }
    fs::write(b.join(BIN), zip(&members(&Pickle::state(entries), &storages)).bytes).unwrap();
    assert_same(&a, &b, &[Ftype::BF16, Ftype::Q8_0]);
}

#[test]
#[ignore = "needs a Python with PyTorch: PYTHON names it"]
fn torch_reproduces_the_golden_files() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let fresh = tempfile::tempdir().unwrap();
    let done = Command::new(python).arg(golden.join("make.py")).arg(fresh.path()).status().expect("Python starts");
    assert!(done.success());
    // versions differ in pickling and padding, and each file has a random id: only the weights must be equal
    for name in ["plain.bin", "views.bin", "no-crc.bin"] {
        let (_dir, a, b) = roofs();
        golden_folder(&a, &golden.join(name));
        golden_folder(&b, &fresh.path().join(name));
        assert_same(&a, &b, &[Ftype::F32, Ftype::BF16]);
    }
}

fn golden_folder(dir: &Path, bin: &Path) {
    golden().0.write_beside(dir);
    fs::copy(bin, dir.join(BIN)).unwrap();
}

//! Every tensor and every key of a converted file against llama.cpp's own quantizer, run by the same library on our
//! lossless 16-bit file. The oracle is `llama_model_quantize`; nothing is stored.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod made;

use llama_ext::quantize_file::quantize_file;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::{Gguf, TensorInfo};
use tulu_quantize::{Checkpoint, Ftype, Options, Plan, Silent, convert};

fn convert_all(dir: &Path, to: &Path, types: &[Ftype], threads: usize) -> Vec<PathBuf> {
    convert_by(dir, to, types, threads, false)
}

fn convert_by(dir: &Path, to: &Path, types: &[Ftype], threads: usize, reference_kernels: bool) -> Vec<PathBuf> {
    let source = Checkpoint::open(dir).expect("the checkpoint is good");
    let outputs: Vec<_> = types.iter().map(|t| (*t, to.join(format!("{t}.gguf")))).collect();
    let plan = Plan::new(&source, &outputs).expect("the plan fits");
    let options = Options { threads: NonZeroUsize::new(threads).unwrap(), replace: false, reference_kernels };
    let report = convert(&source, &plan, options, &Silent).expect("the conversion runs");
    assert_eq!(report.written, outputs.iter().map(|(_, p)| p.metadata().unwrap().len()).sum::<u64>());
    outputs.into_iter().map(|(_, path)| path).collect()
}

fn bytes(file: &Gguf, t: &TensorInfo) -> Vec<u8> {
    let all = std::fs::read(&file.path).expect("readable");
    all[t.offset as usize..(t.offset + t.bytes) as usize].to_vec()
}

fn assert_same(ours: &Path, theirs: &Path) {
    let (a, b) = (Gguf::open(ours).expect("ours"), Gguf::open(theirs).expect("theirs"));
    let names = |g: &Gguf| g.tensors.iter().map(|t| (t.name.clone(), t.kind, t.dims.clone())).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b), "{}", ours.display());
    for (x, y) in a.tensors.iter().zip(&b.tensors) {
        assert!(bytes(&a, x) == bytes(&b, y), "{}: tensor {} differs", ours.display(), x.name);
    }
    let sorted = |g: &Gguf| {
        let mut pairs = g.pairs.clone();
        pairs.sort_by(|x, y| x.0.cmp(&y.0));
        pairs
    };
    assert_eq!(sorted(&a), sorted(&b));
}

/// All mixes, on a random checkpoint with grouped heads whose rows are not all multiples of 256 (fallback types).
fn same_as_llama_cpp(checkpoint: &made::Checkpoint) {
    llama_ext::log::capture(false);
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    checkpoint.write(&source);
    let types: Vec<Ftype> = Ftype::ALL.map(|(t, _)| t).to_vec();
    let ours = convert_all(&source, dir.path(), &types, 3);
    let lossless = dir.path().join(format!("{}.gguf", checkpoint.lossless));
    for (ftype, path) in types.iter().zip(&ours) {
        if *ftype == checkpoint.lossless {
            continue;
        }
        let theirs = dir.path().join("theirs.gguf");
        quantize_file(&lossless, &theirs, *ftype, 2).unwrap_or_else(|err| panic!("{ftype}: {err}"));
        assert_same(path, &theirs);
    }
}

#[test]
fn every_type_of_a_bf16_checkpoint_with_grouped_heads() {
    same_as_llama_cpp(&made::Checkpoint::default());
}

#[test]
fn every_type_of_an_f16_checkpoint_with_equal_heads_and_odd_rows() {
    let odd =
        made::Checkpoint { hidden: 288, ffn: 736, heads: 6, kv_heads: 6, lossless: Ftype::F16, ..Default::default() };
    same_as_llama_cpp(&odd);
}

#[test]
fn every_type_of_an_f32_checkpoint_in_one_file() {
    same_as_llama_cpp(&made::Checkpoint { lossless: Ftype::F32, shards: 1, ..Default::default() });
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    made::Checkpoint::default().write(&source);
    let run = |threads: usize| {
        let to = dir.path().join(threads.to_string());
        std::fs::create_dir(&to).unwrap();
        std::fs::read(&convert_all(&source, &to, &[Ftype::Q4_K_M], threads)[0]).unwrap()
    };
    let one = run(1);
    assert!([2, 5].into_iter().all(|threads| run(threads) == one));
}

#[test]
fn our_kernels_and_ggml_s_make_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    made::Checkpoint::default().write(&source);
    let types: Vec<Ftype> = Ftype::ALL.map(|(t, _)| t).to_vec();
    let run = |reference: bool| {
        let to = dir.path().join(reference.to_string());
        std::fs::create_dir(&to).unwrap();
        convert_by(&source, &to, &types, 2, reference)
    };
    for (ours, ggml) in run(false).iter().zip(run(true)) {
        assert!(std::fs::read(ours).unwrap() == std::fs::read(&ggml).unwrap(), "{}", ours.display());
    }
}

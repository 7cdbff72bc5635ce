//! Converted files equal those of llama.cpp's own quantizer, in every tensor and every key. The reference is
//! `llama_model_quantize` of the linked library on our lossless 16-bit file; there is no golden file.

use crate::fixtures;
use llama_ext::TypeRules;
use llama_ext::quantize_file::quantize_file;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::{Array, Gguf, TensorEntry, TensorInfo, Value, encode_header};
use tulu_quantize::{
    Checkpoint, Code, ConvertOptions, Ftype, GgmlType, Imatrix, Plan, QuantizeOptions, Silent, convert,
};

fn convert_all(dir: &Path, to: &Path, types: &[Ftype], recipe: &QuantizeOptions, threads: usize) -> Vec<PathBuf> {
    convert_by(dir, to, types, recipe, threads, false)
}

fn convert_by(
    dir: &Path,
    to: &Path,
    types: &[Ftype],
    recipe: &QuantizeOptions,
    threads: usize,
    reference_kernels: bool,
) -> Vec<PathBuf> {
    let source = Checkpoint::open(dir).expect("the checkpoint is good");
    let outputs: Vec<_> = types.iter().map(|t| (*t, to.join(format!("{t}.gguf")))).collect();
    let plan = Plan::new(&source, &outputs, recipe).expect("the plan fits");
    let options = ConvertOptions { threads: NonZeroUsize::new(threads).unwrap(), replace: false, reference_kernels };
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
    let names = |g: &Gguf| g.tensors.iter().map(|t| (t.name.clone(), t.ggml_type, t.dims.clone())).collect::<Vec<_>>();
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
fn same_as_llama_cpp(checkpoint: &fixtures::Checkpoint) {
    llama_ext::log::capture(None);
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    checkpoint.write(&source);
    let types: Vec<Ftype> = Ftype::ALL.map(|(t, _)| t).to_vec();
    let ours = convert_all(&source, dir.path(), &types, &QuantizeOptions::default(), 3);
    let lossless = dir.path().join(format!("{}.gguf", checkpoint.lossless));
    for (ftype, path) in types.iter().zip(&ours) {
        if *ftype == checkpoint.lossless {
            continue;
        }
        let theirs = dir.path().join("theirs.gguf");
        quantize_file(&lossless, &theirs, &TypeRules::plain(*ftype), &[], 2)
            .unwrap_or_else(|err| panic!("{ftype}: {err}"));
        assert_same(path, &theirs);
    }
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn bf16_checkpoint_with_grouped_heads_equals_llama_quantize() {
    same_as_llama_cpp(&fixtures::Checkpoint::default());
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn f16_checkpoint_with_odd_rows_equals_llama_quantize() {
    let odd = fixtures::Checkpoint {
        hidden: 288,
        ffn: 736,
        heads: 6,
        kv_heads: 6,
        lossless: Ftype::F16,
        ..Default::default()
    };
    same_as_llama_cpp(&odd);
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn f32_checkpoint_in_one_file_equals_llama_quantize() {
    same_as_llama_cpp(&fixtures::Checkpoint { lossless: Ftype::F32, shards: 1, ..Default::default() });
}

#[test]
fn thread_count_does_not_change_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fixtures::Checkpoint::default().write(&source);
    let run = |threads: usize| {
        let to = dir.path().join(threads.to_string());
        std::fs::create_dir(&to).unwrap();
        std::fs::read(&convert_all(&source, &to, &[Ftype::Q4_K_M], &QuantizeOptions::default(), threads)[0]).unwrap()
    };
    let one = run(1);
    assert!([2, 5].into_iter().all(|threads| run(threads) == one));
}

/// Random importance of every matrix, in both of llama-imatrix's formats.
fn imatrix(dir: &Path, checkpoint: &fixtures::Checkpoint) -> (PathBuf, PathBuf) {
    let mut state = 7_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 + 0.01
    };
    let mut names = vec!["output.weight".to_owned()];
    for i in 0..checkpoint.layers {
        for name in ["attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up"] {
            names.push(format!("blk.{i}.{name}.weight"));
        }
    }
    let calls = 3_i32;
    let (mut dat, mut sums) = ((names.len() as i32).to_le_bytes().to_vec(), Vec::new());
    for name in &names {
        let n = if name.contains("ffn_down") { checkpoint.ffn } else { checkpoint.hidden };
        let weights: Vec<f32> = (0..n).map(|_| random()).collect();
        dat.extend((name.len() as i32).to_le_bytes());
        dat.extend(name.as_bytes());
        dat.extend(calls.to_le_bytes());
        dat.extend((n as i32).to_le_bytes());
        weights.iter().for_each(|w| dat.extend(w.to_le_bytes()));
        sums.push((name.clone(), weights));
    }
    dat.extend(5_i32.to_le_bytes());
    dat.extend(4_i32.to_le_bytes());
    dat.extend(b"wiki");
    let dat_path = dir.join("imatrix.dat");
    std::fs::write(&dat_path, dat).unwrap();

    let (mut entries, mut data) = (Vec::new(), Vec::new());
    let listed: Vec<_> = sums
        .iter()
        .flat_map(|(name, w)| [(format!("{name}.in_sum2"), w.clone()), (format!("{name}.counts"), vec![calls as f32])])
        .map(|(name, values)| (name, vec![values.len() as u64], values))
        .collect();
    for (name, dims, values) in &listed {
        entries.push(TensorEntry { name, dims, ggml_type: GgmlType::F32, offset: data.len() as u64 });
        values.iter().for_each(|v| data.extend(v.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    let pairs = [
        ("general.type".to_owned(), Value::Str("imatrix".to_owned())),
        ("imatrix.datasets".to_owned(), Value::Array(Array::Str(vec!["wiki".to_owned()]))),
        ("imatrix.chunk_count".to_owned(), Value::U32(5)),
        ("imatrix.chunk_size".to_owned(), Value::U32(512)),
    ];
    let mut gguf = encode_header(&pairs, &entries);
    gguf.extend(data);
    let gguf_path = dir.join("imatrix.gguf");
    std::fs::write(&gguf_path, gguf).unwrap();
    (dat_path, gguf_path)
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn imatrix_and_type_options_equal_llama_quantize() {
    llama_ext::log::capture(None);
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    // eight layers, because the rules treat the first eighth separately
    let checkpoint = fixtures::Checkpoint { layers: 8, hidden: 256, ffn: 512, heads: 4, ..Default::default() };
    checkpoint.write(&source);
    let (dat, gguf) = imatrix(dir.path(), &checkpoint);
    let read = |path: &Path| Imatrix { file: String::new(), ..Imatrix::read(path).expect("both formats are read") };
    assert_eq!(read(&dat), read(&gguf));

    let recipe = QuantizeOptions {
        imatrix: Some(Imatrix::read(&gguf).unwrap()),
        output: Some(GgmlType::Q5_K),
        overrides: vec![("blk\\.[3-5]\\.ffn_up".to_owned(), GgmlType::Q6_K)],
        ..Default::default()
    };
    let lossless = convert_all(&source, dir.path(), &[Ftype::BF16], &QuantizeOptions::default(), 2).remove(0);
    let weights: Vec<_> = recipe.imatrix.as_ref().unwrap().entries.clone().into_iter().collect();
    for ftype in [Ftype::Q4_K_M, Ftype::Q5_K_S, Ftype::Q4_0, Ftype::IQ4_XS, Ftype::Q2_K, Ftype::Q6_K] {
        let ours = convert_all(&source, dir.path(), &[ftype], &recipe, 2).remove(0);
        let rules = TypeRules {
            has_imatrix: true,
            output: recipe.output,
            overrides: recipe.overrides.clone(),
            ..TypeRules::plain(ftype)
        };
        let theirs = dir.path().join("theirs.gguf");
        quantize_file(&lossless, &theirs, &rules, &weights, 2).unwrap_or_else(|err| panic!("{ftype}: {err}"));
        let (a, b) = (Gguf::open(&ours).unwrap(), Gguf::open(&theirs).unwrap());
        for (x, y) in a.tensors.iter().zip(&b.tensors) {
            assert_eq!((&x.name, x.ggml_type), (&y.name, y.ggml_type));
            assert!(bytes(&a, x) == bytes(&b, y), "{ftype}: tensor {} differs", x.name);
        }
        assert_eq!(a.str("quantize.imatrix.dataset"), Some("wiki"));
        assert_eq!(a.u32("quantize.imatrix.entries_count"), Some(weights.len() as u32));
        assert_eq!(a.u32("quantize.imatrix.chunks_count"), Some(5));
    }
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn own_and_reference_kernels_make_equal_files() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fixtures::Checkpoint::default().write(&source);
    let types: Vec<Ftype> = Ftype::ALL.map(|(t, _)| t).to_vec();
    let run = |reference: bool| {
        let to = dir.path().join(reference.to_string());
        std::fs::create_dir(&to).unwrap();
        convert_by(&source, &to, &types, &QuantizeOptions::default(), 2, reference)
    };
    for (ours, ggml) in run(false).iter().zip(run(true)) {
        assert!(std::fs::read(ours).unwrap() == std::fs::read(&ggml).unwrap(), "{}", ours.display());
    }
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn gguf_source_equals_llama_quantize() {
    llama_ext::log::capture(None);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("model");
    fixtures::Checkpoint::default().write(&folder);
    let lossless = dir.path().join("lossless");
    std::fs::create_dir(&lossless).unwrap();
    let sources =
        convert_all(&folder, &lossless, &[Ftype::BF16, Ftype::F16, Ftype::Q8_0], &QuantizeOptions::default(), 2);
    for from in &sources {
        let quantized = from.ends_with("Q8_0.gguf");
        assert_eq!(Checkpoint::open_gguf(from, false).err().map(|err| err.code), quantized.then_some(Code::Requantize));
        let source = Checkpoint::open_gguf(from, true).unwrap();
        for ftype in [Ftype::Q4_K_M, Ftype::Q8_0, Ftype::Q5_0] {
            let (ours, theirs) = (dir.path().join("ours.gguf"), dir.path().join("theirs.gguf"));
            let plan = Plan::new(&source, &[(ftype, ours.clone())], &QuantizeOptions::default()).unwrap();
            let options =
                ConvertOptions { threads: NonZeroUsize::new(2).unwrap(), replace: true, reference_kernels: false };
            convert(&source, &plan, options, &Silent).unwrap();
            quantize_file(from, &theirs, &TypeRules::plain(ftype), &[], 2).unwrap();
            assert_same(&ours, &theirs);
        }
    }
}

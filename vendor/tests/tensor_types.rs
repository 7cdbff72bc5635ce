//! llama.cpp's type rules, called through this crate, give the published sizes of the 13B models.

use llama_ext::{Ftype, GgmlType, ModelShape, TensorDesc, TypeRules, tensor_types};

const TULU_13B: ModelShape =
    ModelShape { n_embd: 5120, n_ff: 13824, n_layer: 40, n_head: 40, n_head_kv: 40, head_dim: 128 };

/// (name, row length, rows) in llama.cpp's order: tensors outside the layers first, then layer by layer, sorted by
/// name.
fn tensors() -> Vec<(String, u64, u64)> {
    let mut all = vec![
        ("output.weight".to_owned(), 5120, 32000),
        ("output_norm.weight".to_owned(), 5120, 0),
        ("token_embd.weight".to_owned(), 5120, 32000),
    ];
    for i in 0..40 {
        for (name, n, rows) in [
            ("attn_k", 5120, 5120),
            ("attn_norm", 5120, 0),
            ("attn_output", 5120, 5120),
            ("attn_q", 5120, 5120),
            ("attn_v", 5120, 5120),
            ("ffn_down", 13824, 5120),
            ("ffn_gate", 5120, 13824),
            ("ffn_norm", 5120, 0),
            ("ffn_up", 5120, 13824),
        ] {
            all.push((format!("blk.{i}.{name}.weight"), n, rows));
        }
    }
    all
}

fn types(rules: &TypeRules) -> Vec<GgmlType> {
    let tensors = tensors();
    let source = |rows| if rows == 0 { GgmlType::F32 } else { GgmlType::BF16 };
    let asked: Vec<_> = tensors
        .iter()
        .map(|(name, n_per_row, n_rows)| TensorDesc {
            name,
            n_per_row: *n_per_row,
            n_rows: *n_rows,
            source: source(*n_rows),
        })
        .collect();
    tensor_types(&TULU_13B, rules, &asked).expect("the 13B shape is plain")
}

fn bytes(types: &[GgmlType]) -> u64 {
    let row = |t: GgmlType, n: u64| t.row_bytes(n as usize).expect("whole blocks") as u64;
    tensors().iter().zip(types).map(|((_, n, rows), t)| row(*t, *n) * rows.max(&1)).sum()
}

#[test]
fn sizes_of_13b_equal_the_published_ones() {
    // published GB for tulu-2-13b; these are file sizes, which include a header of less than 1 MB
    for (ftype, gb) in [(Ftype::Q4_K_S, 7.422), (Ftype::Q4_K_M, 7.865), (Ftype::Q5_K_M, 9.229), (Ftype::Q8_0, 13.831)] {
        let got = bytes(&types(&TypeRules::plain(ftype))) as f64 / 1e9;
        assert!((got - gb).abs() < 0.002, "{ftype}: {got} GB, published {gb} GB");
    }
}

#[test]
fn q4_k_m_has_the_known_mix() {
    let got = types(&TypeRules::plain(Ftype::Q4_K_M));
    let count = |t| got.iter().filter(|x| **x == t).count();
    assert_eq!((count(GgmlType::Q4_K), count(GgmlType::Q6_K), count(GgmlType::F32)), (241, 41, 81));
}

#[test]
fn shapes_that_abort_llama_cpp_are_errors() {
    let one = [TensorDesc { name: "blk.0.attn_q.weight", n_per_row: 256, n_rows: 256, source: GgmlType::BF16 }];
    for n_layer in [0, 513] {
        assert!(tensor_types(&ModelShape { n_layer, ..TULU_13B }, &TypeRules::plain(Ftype::Q4_K_M), &one).is_err());
    }
    let long = "x".repeat(64);
    let named = [TensorDesc { name: &long, ..one[0].clone() }];
    assert!(tensor_types(&TULU_13B, &TypeRules::plain(Ftype::Q4_K_M), &named).is_err());
}

#[test]
fn options_change_the_types_like_llama_quantize() {
    let plain = TypeRules::plain(Ftype::Q4_0);
    let names = tensors();
    let of =
        |got: &[GgmlType], name: &str| got[names.iter().position(|(n, ..)| n == name).expect("a tensor of the model")];
    let pure = types(&TypeRules { pure: true, ..plain.clone() });
    assert!(pure.iter().all(|t| matches!(t, GgmlType::Q4_0 | GgmlType::F32)));
    let with = types(&TypeRules { has_imatrix: true, ..plain.clone() });
    assert_eq!(of(&types(&plain), "blk.0.ffn_down.weight"), GgmlType::Q4_0);
    assert_eq!(
        of(&with, "blk.0.ffn_down.weight"),
        GgmlType::Q4_1,
        "with an importance matrix the first layers get more"
    );
    let rules = TypeRules {
        output: Some(GgmlType::Q8_0),
        token_embedding: Some(GgmlType::F16),
        overrides: vec![("blk\\.[01]\\.attn_v".to_owned(), GgmlType::Q6_K)],
        ..plain.clone()
    };
    let got = types(&rules);
    assert_eq!(of(&got, "output.weight"), GgmlType::Q8_0);
    assert_eq!(of(&got, "token_embd.weight"), GgmlType::F16);
    assert_eq!((of(&got, "blk.1.attn_v.weight"), of(&got, "blk.2.attn_v.weight")), (GgmlType::Q6_K, GgmlType::Q4_0));
}

#[test]
fn invalid_pattern_is_an_error() {
    let one = [TensorDesc { name: "blk.0.attn_q.weight", n_per_row: 256, n_rows: 256, source: GgmlType::BF16 }];
    let rules = TypeRules { overrides: vec![("(".to_owned(), GgmlType::Q6_K)], ..TypeRules::plain(Ftype::Q4_K_M) };
    assert!(tensor_types(&TULU_13B, &rules, &one).is_err());
}

//! Our kernels against ggml's, byte for byte. The oracle is `ggml_quantize_chunk` of the linked library; nothing is stored.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[allow(dead_code, reason = "shared with the bench")]
mod weights;

use tulu_quantize::{GgmlType, kernels};

/// Quantizes rows by both and compares; the message says which block came out different first.
fn same(to: GgmlType, src: &[f32], n_per_row: usize, importance: Option<&[f32]>, what: &str) {
    let bytes = src.len() / n_per_row * to.row_bytes(n_per_row).unwrap();
    let (mut ours, mut ggml) = (vec![0xaa; bytes], vec![0x55; bytes]);
    kernels::quantize(to, src, n_per_row, importance, &mut ours).unwrap();
    kernels::reference(to, src, n_per_row, importance, &mut ggml).unwrap();
    let (size, count) = (to.block_bytes(), to.block_size());
    let differ = ours.chunks(size).zip(ggml.chunks(size)).enumerate().filter(|(_, (a, b))| a != b);
    let differ: Vec<usize> = differ.map(|(block, _)| block).collect();
    if let Some(&block) = differ.first() {
        let kind = if importance.is_some() { "with importance" } else { "without importance" };
        let (at, x) = (block * size, &src[block * count..][..count]);
        panic!(
            "{to} {kind}, {what}: {} of {} blocks differ, first {block}\nours {:?}\nggml {:?}\nweights {x:?}",
            differ.len(),
            bytes / size,
            &ours[at..at + size],
            &ggml[at..at + size],
        );
    }
}

fn both(to: GgmlType, src: &[f32], n_per_row: usize, seed: u64, what: &str) {
    same(to, src, n_per_row, None, what);
    same(to, src, n_per_row, Some(&weights::importance(n_per_row, seed)), what);
}

/// `millions` of weights for every type, in rows of several lengths (some end within a group of sixteen blocks).
fn realistic(millions: usize, seed: u64) {
    for to in GgmlType::ALL {
        println!("{to}: seed {seed}");
        for (part, n_per_row) in [4096, 5120, 11008, 256 * 3].into_iter().enumerate() {
            let rows = (millions << 18) / n_per_row + 1;
            let seed = seed + part as u64;
            let src = weights::realistic(rows * n_per_row, seed);
            both(to, &src, n_per_row, seed, &format!("seed {seed}, rows of {n_per_row}"));
        }
    }
}

#[test]
fn four_million_realistic_weights_of_every_type() {
    realistic(4, 17);
}

#[test]
#[ignore = "long"]
fn long_a_hundred_million_realistic_weights() {
    // 15 types × 8 Mi, each with and without importance
    realistic(8, 1000);
}

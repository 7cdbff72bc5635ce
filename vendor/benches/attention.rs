//! Compares our attention with ggml's on attention masks like those of a batch. Prints the milliseconds of the fastest
//! of nine runs. Usage: `cargo bench -p llama-ext --bench attention [THREADS]`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a bench stops at the first error")]

use llama_ext::attention::Attention;
use llama_ext::{GgmlType, f16_to_f32, quantize_rows};

const HIDDEN: u16 = 0xfc00;
const RUNS: u16 = 9;

/// A name, the numbers of tokens and cells, and whether a token attends to a cell.
type Pattern = (&'static str, usize, usize, fn(usize, usize) -> bool);

/// The mask of sixteen slots: prompts of 57 tokens one after another, then one generated token of each slot in turn.
fn own(token: usize, cell: usize) -> bool {
    if cell < 912 { cell / 57 == token } else { cell < 1552 && cell % 16 == token }
}

const PATTERNS: [Pattern; 8] = [
    ("one sequence of 2000", 1, 2048, |_, cell| cell < 2000),
    ("8 sequences, interleaved cells", 8, 1024, |token, cell| cell % 8 == token),
    ("32 sequences, interleaved cells", 32, 8192, |token, cell| cell % 32 == token),
    ("16 sequences, no common prefix", 16, 1792, own),
    ("16 sequences, common prefix of 650", 16, 2560, |token, cell| cell < 650 || (cell < 2090 && cell % 16 == token)),
    ("14 sequences and two prompts of 57", 128, 1792, |token, cell| match token.checked_sub(14) {
        None => own(token, cell),
        Some(n) => cell < 912 && cell / 57 == 14 + n / 57 && cell % 57 <= n % 57,
    }),
    ("one prompt of 128", 128, 256, |token, cell| cell <= token),
    ("last 512 tokens of a prompt of 2048", 512, 2048, |token, cell| cell <= 1536 + token),
];

fn main() {
    let threads = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(2);
    for (shape, dim, n_head, n_head_kv) in
        [("4 key-value heads of 32, 64 values", 64, 32, 4), ("32 heads, 128 values", 128, 32, 32)]
    {
        for kind in [GgmlType::F16, GgmlType::Q8_0] {
            println!("{shape}, {kind} keys and values, {threads} threads");
            for (name, n_tokens, n_kv, sees) in PATTERNS {
                let mut state = 1_u32;
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 8
                };
                // Half floats with absolute values from 2^-6 to 1.
                let mut rows = || {
                    let half = |x: u32, y: u32, z: u32| (((x % 2) << 15) | ((9 + y % 7) << 10) | (z % 1024)) as u16;
                    let halves: Vec<u8> =
                        (0..dim * n_head_kv * n_kv).flat_map(|_| half(next(), next(), next()).to_le_bytes()).collect();
                    let mut floats = vec![0.0; halves.len() / 2];
                    f16_to_f32(&halves, &mut floats).unwrap();
                    let mut bytes = vec![0; n_head_kv * n_kv * kind.row_bytes(dim).unwrap()];
                    quantize_rows(kind, &floats, dim, None, &mut bytes).unwrap();
                    bytes
                };
                let (k, v) = (rows(), rows());
                let q = (0..dim * n_head * n_tokens).map(|_| (next() % 4001) as f32 / 1000.0 - 2.0).collect();
                let mask = (0..n_tokens * n_kv).map(|i| if sees(i / n_kv, i % n_kv) { 0 } else { HIDDEN }).collect();
                let attention = Attention { dim, n_head, n_head_kv, k_type: kind, v_type: kind, q, k, v, mask };
                compare(name, &attention, threads);
            }
        }
    }
}

/// Prints one line.
fn compare(name: &str, attention: &Attention, threads: u16) {
    let milliseconds = |ours| attention.compute(ours, threads, RUNS).unwrap().map(|(_, seconds)| 1e3 * seconds);
    let ggml = milliseconds(false).expect("ggml supports all inputs");
    match milliseconds(true) {
        Some(ours) => println!("  {name:<35} ours {ours:>8.3} ms  ggml {ggml:>8.3} ms  {:>5.2} times", ggml / ours),
        None => println!("  {name:<35} not in this build; ggml {ggml:>8.3} ms"),
    }
}

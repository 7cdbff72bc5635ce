//! Compares our matrix products with ggml's, by type and number of columns, in 10^12 multiply-adds per second. Columns:
//! ours, its ratio to ggml's fastest kind of weight buffer, and each kind. Takes the fastest of several rounds. Usage:
//! `cargo bench -p llama-ext --bench matmul [THREADS]`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a bench stops at the first error")]

use llama_ext::GgmlType;
use llama_ext::cpu_check::{OUR_DEVICE, matmul_times};

const ROWS: f64 = 2048.0;
const DEPTH: f64 = 4096.0;

fn main() {
    let threads = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(2);
    llama_ext::log::capture(None);
    println!("{} x {}, {threads} threads, kernels {:?}", ROWS, DEPTH, llama_ext::accel::kernels().matmul);
    for kind in [
        GgmlType::Q4_K,
        GgmlType::Q5_K,
        GgmlType::Q6_K,
        GgmlType::Q8_0,
        GgmlType::Q3_K,
        GgmlType::Q2_K,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::IQ4_NL,
        GgmlType::IQ4_XS,
    ] {
        for columns in [1_u16, 2, 4, 8, 16, 32, 128, 512] {
            let times = matmul_times(kind, usize::from(columns), threads).unwrap();
            let rate = |seconds: &[f64]| {
                ROWS * DEPTH * f64::from(columns) / seconds.iter().copied().fold(f64::INFINITY, f64::min) / 1e12
            };
            let ours = times.iter().find(|time| time.buffer == OUR_DEVICE).map(|time| rate(&time.seconds));
            let theirs: Vec<String> = times
                .iter()
                .filter(|time| time.buffer != OUR_DEVICE)
                .map(|time| format!("{} {:.3}", time.buffer, rate(&time.seconds)))
                .collect();
            let best = times
                .iter()
                .filter(|time| time.buffer != OUR_DEVICE)
                .map(|time| rate(&time.seconds))
                .fold(0.0, f64::max);
            let ours = ours.map_or("-".to_owned(), |ours| format!("{ours:.3}  {:.2} times", ours / best));
            println!("{:<7} {columns:>4}  ours {ours:<18}  {}", kind.to_string(), theirs.join("  "));
        }
    }
}

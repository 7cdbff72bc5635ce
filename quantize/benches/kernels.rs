//! Compares the speed of the kernels with ggml's, on one thread: `cargo bench -p tulu-quantize --bench kernels`.
//!
//! Each sample runs this crate's kernel and then ggml's on the same weights, so that other load affects both. Criterion
//! reports this crate's; the table at the end has the best time of both.

#![allow(clippy::expect_used, missing_docs, reason = "a bench stops at the first surprise")]

#[path = "../tests/random_weights.rs"]
mod random_weights;

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tulu_quantize::{GgmlType, kernels};

const N_PER_ROW: usize = 4096;
const ROWS: usize = 64;

/// Best times for a type, of this crate and of ggml.
struct Line {
    name: String,
    ours: Duration,
    ggml: Duration,
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2))
        .sample_size(10)
        .without_plots()
        .configure_from_args();
    let src = random_weights::realistic(ROWS * N_PER_ROW, 1);
    let importance = random_weights::importance(N_PER_ROW, 2);
    let mut table = Vec::new();
    let mut group = criterion.benchmark_group("quantize");
    group.throughput(Throughput::Elements(src.len() as u64));
    for to in GgmlType::ALL {
        for (suffix, importance) in [("", None), (" imatrix", Some(importance.as_slice()))] {
            let mut line = Line { name: format!("{to}{suffix}"), ours: Duration::MAX, ggml: Duration::MAX };
            let mut dst = vec![0; ROWS * to.row_bytes(N_PER_ROW).expect("whole blocks")];
            group.bench_function(line.name.clone(), |bench| {
                bench.iter_custom(|rounds| {
                    let mut all = Duration::ZERO;
                    for _ in 0..rounds {
                        let begun = Instant::now();
                        kernels::quantize(to, black_box(&src), N_PER_ROW, importance, &mut dst).expect("quantized");
                        let ours = begun.elapsed();
                        let begun = Instant::now();
                        kernels::reference(to, black_box(&src), N_PER_ROW, importance, &mut dst).expect("quantized");
                        line.ggml = line.ggml.min(begun.elapsed());
                        line.ours = line.ours.min(ours);
                        all += ours;
                    }
                    all
                });
            });
            table.push(line);
        }
    }
    group.finish();
    readers(&mut criterion);
    println!("{:16} {:>10} {:>10} {:>7}   M weights/s, best of the run", "", "ours", "ggml", "ratio");
    for line in table.iter().filter(|line| line.ours < Duration::MAX) {
        let speed = |time: Duration| src.len() as f64 / time.as_secs_f64() / 1e6;
        let (ours, ggml) = (speed(line.ours), speed(line.ggml));
        println!("{:16} {ours:10.1} {ggml:10.1} {:6.1}x", line.name, ours / ggml);
    }
}

/// Measures the conversion of the source formats to f32.
fn readers(criterion: &mut Criterion) {
    const N: usize = 1 << 19;
    let bytes: Vec<u8> = (0..2 * N).map(|i| (i * 7 % 251) as u8).collect();
    let mut out = vec![0.0; N];
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(N as u64));
    group.bench_function("bf16", |b| b.iter(|| llama_ext::bf16_to_f32(black_box(&bytes), &mut out).expect("read")));
    group.bench_function("f16", |b| b.iter(|| llama_ext::f16_to_f32(black_box(&bytes), &mut out).expect("read")));
    group.finish();
}

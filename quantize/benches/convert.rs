//! Measures the stages of a conversion, each alone and then all together, in one run.
//!
//! ```text
//! cargo bench -p tulu-quantize --bench convert -- CHECKPOINT [TYPES] [OUT_DIR]
//! ```
//!
//! Without a checkpoint the bundled one is used, which is too small for meaningful results. TYPES is a list such as
//! Q4_K_M,Q8_0. Every stage uses as many threads as the conversion. "share" is the time of the stage divided by that of
//! the conversion; a stage near 100 % is the bottleneck.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench stops at the first surprise"
)]

use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tulu_quantize::{Checkpoint, ConvertOptions, Ftype, Plan, QuantizeOptions, Silent, convert, kernels};

const BLOCK: u64 = 4 << 20;
/// Weights in a chunk, as in `convert/chunks.rs`.
const CHUNK: u64 = 1 << 19;

fn main() {
    // cargo adds --bench
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tulu-tiny");
    let dir = args.first().map_or(bundled, PathBuf::from);
    let names = args.get(1).map_or("Q4_K_M,Q5_K_M,Q8_0", String::as_str);
    let out = args.get(2).map_or_else(|| tempfile::tempdir().unwrap().keep(), PathBuf::from);
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);

    let source = Checkpoint::open(&dir).expect("a checkpoint");
    let types: Vec<Ftype> = names.split(',').map(|n| n.parse().expect("a type")).collect();
    let outputs: Vec<_> = types.iter().map(|t| (*t, out.join(format!("bench-{t}.gguf")))).collect();
    let plan = Plan::new(&source, &outputs, &QuantizeOptions::default()).expect("a plan");
    println!("{}: {} threads, {names}", source.name(), threads);

    let run = || {
        let options = ConvertOptions { threads, replace: true, reference_kernels: false };
        let begun = Instant::now();
        convert(&source, &plan, options, &Silent).expect("a conversion");
        begun.elapsed().as_secs_f64()
    };
    run(); // warm-up: reads the source into the page cache if it fits
    let reading = read(&source, threads);
    let kernel = quantize(&plan, threads);
    let writing = write(&out, plan.output_bytes());
    let whole = run();
    outputs.iter().for_each(|(_, path)| drop(std::fs::remove_file(path)));

    let gb = |bytes: u64, seconds: f64| format!("{:.2} GB/s", bytes as f64 / 1e9 / seconds);
    let weights = plan.n_params * plan.outputs.len() as u64;
    let rate = |seconds: f64| format!("{:.0} M weights/s", weights as f64 / 1e6 / seconds);
    println!("{:<12} {:>8}  {:>6}  rate", "stage", "seconds", "share");
    for (stage, seconds, rate) in [
        ("read", reading, gb(plan.source_bytes, reading)),
        ("quantize", kernel, rate(kernel)),
        ("write, fsync", writing, gb(plan.output_bytes(), writing)),
        ("all together", whole, rate(whole)),
    ] {
        println!("{stage:<12} {seconds:>8.2}  {:>5.0}%  {rate}", 100.0 * seconds / whole);
    }
}

/// Reads all shards in blocks, with all threads.
fn read(source: &Checkpoint, threads: NonZeroUsize) -> f64 {
    let begun = Instant::now();
    for shard in &source.shards {
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads.get() {
                scope.spawn(|| {
                    let mut block = vec![0; BLOCK as usize];
                    loop {
                        let at = next.fetch_add(BLOCK, Ordering::Relaxed);
                        if at >= shard.len() {
                            return;
                        }
                        let n = BLOCK.min(shard.len() - at) as usize;
                        shard.bytes.read_exact_at(&mut block[..n], at).expect("readable");
                    }
                });
            }
        });
    }
    begun.elapsed().as_secs_f64()
}

/// Quantizes as many weights of each type as the plan has, from one chunk that stays in the CPU cache.
fn quantize(plan: &Plan, threads: NonZeroUsize) -> f64 {
    let noise: Vec<f32> = (0..CHUNK)
        .scan(1_u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some(((*state >> 8) as f32 / 8_388_608.0 - 1.0) * 0.03)
        })
        .collect();
    let mut work = Vec::new();
    for output in &plan.outputs {
        for (t, kind) in plan.tensors.iter().zip(&output.types) {
            let (columns, mut rows) = (t.n_per_row(), t.n_rows());
            let step = (CHUNK / columns).max(1);
            while rows > 0 {
                let n = step.min(rows);
                work.push((*kind, columns as usize, (n * columns) as usize));
                rows -= n;
            }
        }
    }
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                let mut packed = Vec::new();
                while let Some((kind, columns, n)) = work.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    packed.resize(kind.row_bytes(*columns).unwrap() * (n / columns), 0);
                    kernels::quantize(*kind, &noise[..*n], *columns, None, &mut packed).expect("whole rows");
                }
            });
        }
    });
    begun.elapsed().as_secs_f64()
}

/// Writes and fsyncs as many bytes as the outputs have, on the same disk.
fn write(out: &Path, bytes: u64) -> f64 {
    let path = out.join("bench-write.tmp");
    let block = vec![0x5a; BLOCK as usize];
    let begun = Instant::now();
    let mut file = File::create(&path).expect("the folder can be written");
    let mut left = bytes;
    while left > 0 {
        let n = BLOCK.min(left);
        file.write_all(&block[..n as usize]).expect("space on the disk");
        left -= n;
    }
    file.sync_all().expect("flushed");
    let seconds = begun.elapsed().as_secs_f64();
    drop(std::fs::remove_file(&path));
    seconds
}

//! Compares our matrix products with ggml's on the same numbers, and with products of the dequantized weights in f64:
//! every path of this CPU, every type, ragged shapes, extreme weights and columns. The seed is printed.

use llama_ext::cpu_check::ggml_product;
use llama_ext::matmul::{Outcome, Product, path_for};
use llama_ext::{GgmlType, quantize_rows, to_f32};

const TYPES: [GgmlType; 12] = [
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
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> usize {
        usize::try_from(self.next() % n).unwrap()
    }

    /// An approximately normal number.
    fn bell(&mut self) -> f32 {
        (0..6).map(|_| (self.next() >> 40) as f32 / 8_388_608.0 - 1.0).sum::<f32>() * 0.7
    }
}

fn seed() -> u64 {
    let seed = std::env::var("TULU_QUANT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125);
    println!("seed {seed}");
    seed
}

/// The kind of numbers.
#[derive(Clone, Copy, Debug)]
enum Numbers {
    Usual,
    /// One coordinate of a column is a thousand times the rest, as in LLaMA's massive activations.
    MassiveColumn,
    /// Blocks of weights of very different sizes, some of them zero.
    ExtremeBlocks,
}

fn product(random: &mut Random, kind: GgmlType, shape: (usize, usize, usize), numbers: Numbers) -> Product {
    let (rows, depth, n_cols) = shape;
    let mut weights: Vec<f32> = (0..rows * depth).map(|_| 0.02 * random.bell()).collect();
    let mut columns: Vec<f32> = (0..n_cols * depth).map(|_| random.bell()).collect();
    match numbers {
        Numbers::Usual => {}
        Numbers::MassiveColumn => {
            let at = random.below(depth as u64);
            columns.chunks_exact_mut(depth).for_each(|column| column[at] *= 1000.0);
        }
        Numbers::ExtremeBlocks => {
            for block in weights.chunks_mut(32) {
                let size = [0.0, 1e-6, 1.0, 1e3][random.below(4)];
                block.iter_mut().for_each(|weight| *weight *= size);
            }
        }
    }
    let mut packed = vec![0; rows * kind.row_bytes(depth).unwrap()];
    quantize_rows(kind, &weights, depth, None, &mut packed).unwrap();
    Product { kind, n_per_row: depth, weights: packed, columns }
}

/// The product in f64, columns × rows.
fn exact(product: &Product) -> Vec<f64> {
    let n = product.n_per_row;
    let mut weights = vec![0.0; product.rows().unwrap() * n];
    to_f32(product.kind, &product.weights, &mut weights).unwrap();
    let dot = |row: &[f32], column: &[f32]| row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let rows = || weights.chunks_exact(n);
    product.columns.chunks_exact(n).flat_map(|column| rows().map(move |row| dot(row, column))).collect()
}

/// Sum of the squared differences.
fn error(out: &[f32], right: &[f64]) -> f64 {
    out.iter().zip(right).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum()
}

/// Results of the paths that this CPU can run, with their names.
fn ours(product: &Product, n_threads: u16) -> Vec<(String, Vec<f32>)> {
    let done = |(name, outcome)| match outcome {
        Outcome::Done(out, _) => Some((name, out)),
        Outcome::NotOnThisCpu => None,
        Outcome::Unsupported => panic!("{name} does not take {}", product.kind),
    };
    product.compute(n_threads, 1).unwrap().into_iter().filter_map(done).collect()
}

/// For weights in super-blocks, ggml has one scale for 256 numbers of a column, so our error is much smaller on every
/// input. For other weights, ggml has one scale for 32 numbers and we have one for 16, so our error is smaller on
/// average.
#[test]
fn error_is_never_above_that_of_ggml() {
    let mut random = Random(seed());
    for kind in TYPES {
        for numbers in [Numbers::Usual, Numbers::MassiveColumn, Numbers::ExtremeBlocks] {
            let mut sums: Vec<(String, f64, f64)> = Vec::new();
            for n_cols in [1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 25, 33] {
                let depth = 256 * (1 + random.below(3));
                let shape = (40 + random.below(80), depth, n_cols);
                let product = product(&mut random, kind, shape, numbers);
                let right = exact(&product);
                let theirs = ggml_product(kind, &product.weights, depth, &product.columns, 2).unwrap();
                let limit = error(&theirs, &right);
                for (name, out) in ours(&product, 2) {
                    let found = error(&out, &right);
                    let most = if kind.block_size() == 256 { limit } else { 2.0 * limit };
                    assert!(found <= most, "{name} {kind} {numbers:?} {shape:?}: {found:e}, ggml {limit:e}");
                    // every shape counts equally
                    let size = right.iter().map(|x| x * x).sum::<f64>();
                    match sums.iter_mut().find(|(path, ..)| *path == name) {
                        Some(sum) => (sum.1, sum.2) = (sum.1 + found / size, sum.2 + limit / size),
                        None => sums.push((name, found / size, limit / size)),
                    }
                }
            }
            for (name, found, limit) in sums {
                assert!(found <= limit, "{name} {kind} {numbers:?}: {found:e}, ggml {limit:e}");
            }
        }
    }
}

#[test]
fn ragged_shapes_are_right() {
    let mut random = Random(seed());
    for kind in TYPES {
        let block = kind.block_size();
        for _ in 0..12 {
            let shape = (1 + random.below(70), block * (1 + random.below(20)), 1 + random.below(40));
            let product = product(&mut random, kind, shape, Numbers::Usual);
            let right = exact(&product);
            let size = right.iter().map(|x| x * x).sum::<f64>();
            for (name, out) in ours(&product, 1 + u16::try_from(random.below(3)).unwrap()) {
                assert_eq!(out.len(), right.len());
                assert!(error(&out, &right) < 1e-3 * size + 1e-12, "{name} {kind} {shape:?}");
            }
        }
    }
}

#[test]
fn thread_count_does_not_change_the_bits() {
    let mut random = Random(seed());
    for kind in TYPES {
        let product = product(&mut random, kind, (130, 512, 37), Numbers::Usual);
        let first = ours(&product, 1);
        for n_threads in [1, 2, 3, 8] {
            assert!(ours(&product, n_threads) == first, "{kind}, {n_threads} threads");
        }
    }
}

#[test]
fn columns_do_not_depend_on_each_other() {
    let mut random = Random(seed());
    for kind in TYPES {
        let all = product(&mut random, kind, (48, 512, 29), Numbers::Usual);
        let alone = Product { columns: all.columns[..512].to_vec(), ..all.clone() };
        for ((name, all), (_, alone)) in ours(&all, 2).iter().zip(ours(&alone, 2)) {
            assert!(all[..48] == alone[..], "{name} {kind}");
        }
    }
}

#[test]
fn non_finite_numbers_are_not_hidden() {
    let mut random = Random(seed());
    for kind in TYPES {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut product = product(&mut random, kind, (32, 256, 5), Numbers::Usual);
            product.columns[2 * 256 + random.below(256)] = bad;
            for (name, out) in ours(&product, 2) {
                assert!(out[2 * 32..3 * 32].iter().all(|x| x.is_nan()), "{name} {kind} {bad}");
                assert!(out[..2 * 32].iter().chain(&out[3 * 32..]).all(|x| x.is_finite()), "{name} {kind} {bad}");
            }
        }
    }
}

#[test]
fn tiny_and_huge_columns_are_not_lost() {
    let mut random = Random(seed());
    for kind in TYPES {
        for size in [0.0, 1e-38, 1e-30, 1e30] {
            let mut product = product(&mut random, kind, (32, 256, 3), Numbers::Usual);
            product.columns.iter_mut().for_each(|x| *x *= size);
            let right = exact(&product);
            let power = right.iter().map(|x| x * x).sum::<f64>();
            for (name, out) in ours(&product, 1) {
                let lost = if size == 1e-38 { 1.01 } else { 1e-3 };
                assert!(error(&out, &right) <= lost * power, "{name} {kind} {size:e}");
            }
        }
    }
}

/// The most capable path whose gain was measured, by columns (the table in `matmul.cpp`).
#[test]
fn path_depends_on_the_columns() {
    let kernels = llama_ext::accel::kernels().matmul.unwrap_or_default();
    let has = |name: &str| kernels.split(", ").any(|kernel| kernel == name);
    println!("paths of this CPU: {kernels}");
    let vnni = has("avx512-vnni").then_some("avx512-vnni");
    let amx = if has("amx-bf16") { Some("amx-bf16") } else { vnni };
    for (columns, path) in [(1, vnni), (2, vnni), (31, vnni), (32, amx), (512, amx)] {
        if vnni.is_some() {
            assert_eq!(path_for(GgmlType::Q4_K, 4096, columns), path, "{columns}");
        }
    }
    for kind in TYPES {
        if vnni.is_some() {
            assert_eq!(path_for(kind, 4096, 1), vnni, "a row must not depend on the rows beside it: {kind}");
        }
    }
    assert_eq!(path_for(GgmlType::F16, 4096, 512), None, "no kernel");
    assert_eq!(path_for(GgmlType::Q4_K, 4096 + 32, 512), None, "not whole blocks");
}

#[test]
fn mismatched_sizes_are_refused() {
    let product = Product { kind: GgmlType::Q4_K, n_per_row: 256, weights: vec![0; 143], columns: vec![0.0; 256] };
    assert!(product.compute(1, 1).is_err());
    let product = Product { kind: GgmlType::Q4_K, n_per_row: 255, weights: vec![0; 144], columns: vec![0.0; 255] };
    assert!(product.compute(1, 1).is_err());
    let product = Product { kind: GgmlType::Q4_K, n_per_row: 256, weights: vec![0; 144], columns: vec![0.0; 255] };
    assert!(product.compute(1, 1).is_err());
}

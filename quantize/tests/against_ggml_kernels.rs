//! Our kernels give the same bytes as ggml's. The reference is `ggml_quantize_chunk` of the linked library; there is no
//! golden file.

use crate::random_weights as weights;
use tulu_quantize::{GgmlType, kernels};

/// Quantizes rows with both and compares the bytes. The message names the first block that differs.
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

/// Compares `millions` of weights for every type, in rows of several lengths (some end within a group of sixteen
/// blocks).
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
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn realistic_weights_of_every_type_equal_ggml() {
    realistic(4, 17);
}

#[test]
#[ignore = "long"]
fn long_realistic_weights_equal_ggml() {
    // 15 types × 8 Mi, each with and without importance
    realistic(8, 1000);
}

/// Degenerate blocks of 256 weights, with their names.
fn freaks(seed: u64) -> Vec<(String, Vec<f32>)> {
    let mut random = weights::Random::new(seed);
    let tame = weights::realistic(256, seed);
    let mut all: Vec<(String, Vec<f32>)> = Vec::new();
    for c in [0.0, -0.0, 1.0, -1.0, 1e-8, -1e-8, 1e-15, 1e-16, 1e-30, 1e-38, 1e-45, -1e-45, 65504.0, -1e6, 1e10, 1e18] {
        all.push((format!("constant {c:e}"), vec![c; 256]));
        all.push((format!("alternating {c:e}"), (0..256).map(|i| if i % 2 == 0 { c } else { -c }).collect()));
        all.push((format!("half {c:e}, half zero"), (0..256).map(|i| if i % 32 < 16 { c } else { 0.0 }).collect()));
        all.push((format!("one {c:e} among zeros"), (0..256).map(|i| if i == 77 { c } else { 0.0 }).collect()));
        all.push((format!("one {c:e} in every 16"), (0..256).map(|i| if i % 16 == 3 { c } else { 0.0 }).collect()));
        let one: Vec<f32> = tame.iter().enumerate().map(|(i, x)| if i == 40 { c } else { *x }).collect();
        all.push((format!("one {c:e} among tame"), one));
        // the large sub-block sets the scale, and the scales of the ordinary ones round to zero
        let first: Vec<f32> = tame.iter().enumerate().map(|(i, x)| if i < 16 { c * x } else { *x }).collect();
        all.push((format!("first sub-block times {c:e}"), first));
        all.push((format!("all times {c:e}"), tame.iter().map(|x| c * x).collect()));
        all.push((format!("tiny range at {c:e}"), (0..256).map(|i| c * (1.0 + (i % 5) as f32 * 1.2e-7)).collect()));
        all.push((format!("two values at {c:e}"), (0..256).map(|i| c * (1.0 + (i % 32 / 31) as f32 * 3e-7)).collect()));
        all.push((format!("positive around {c:e}"), tame.iter().map(|x| c + x.abs()).collect()));
        all.push((format!("negative around {c:e}"), tame.iter().map(|x| -c - x.abs()).collect()));
    }
    all.push(("signed zeros".into(), (0..256).map(|i| if i % 3 == 0 { 0.0 } else { -0.0 }).collect()));
    all.push(("steps".into(), (0..256).map(|i| (i % 16) as f32 - 7.5).collect()));
    all.push(("sub-blocks of very different sizes".into(), {
        tame.iter().enumerate().map(|(i, x)| x * 10f32.powi(i as i32 / 16 - 8)).collect()
    }));
    for power in -45..=18 {
        let scale = 10f32.powi(power);
        all.push((format!("normal times 1e{power}"), (0..256).map(|_| random.normal() * scale).collect()));
    }
    for round in 0..300 {
        // exponents from a range that gets narrower with each round
        let spread = 40.0 / (1.0 + round as f32 * 0.2);
        let one = |_| random.normal() * 10f32.powf((random.uniform() - 0.8) * spread);
        all.push((format!("spread {round}"), (0..256).map(one).collect()));
    }
    for round in 0..200 {
        // few distinct values, so that several fits have the same error
        let values: Vec<f32> = (0..=round % 5).map(|_| random.normal()).collect();
        let one = |_| values[random.bits() as usize % values.len()];
        all.push((format!("few values {round}"), (0..256).map(one).collect()));
    }
    all
}

fn freaks_beside_tame_blocks(to: GgmlType, freaks: &[(String, Vec<f32>)], importance: Option<&[f32]>) {
    let tame = weights::realistic(15 * 256, 3);
    for (name, freak) in freaks {
        same(to, freak, 256, importance, name);
        // in SIMD lanes next to blocks of the fast path
        let mut group = tame.clone();
        group.splice(5 * 256..5 * 256, freak.iter().copied());
        same(to, &group, 256, importance, &format!("{name}, beside tame blocks"));
    }
    // and next to each other
    let together: Vec<f32> = freaks.iter().flat_map(|(_, freak)| freak).copied().collect();
    same(to, &together, 256, importance, "together");
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn degenerate_blocks_equal_ggml() {
    let seed = 5;
    println!("seed {seed}");
    let freaks = freaks(seed);
    for to in GgmlType::ALL {
        freaks_beside_tame_blocks(to, &freaks, None);
    }
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn degenerate_blocks_with_importance_equal_ggml() {
    let freaks = freaks(6);
    let mut ones = weights::importance(256, 7);
    let mut sparse = vec![0.0; 256];
    sparse[100..110].copy_from_slice(&ones[..10]);
    let tiny: Vec<f32> = ones.iter().map(|w| w * 1e-30).collect();
    for to in GgmlType::ALL {
        for importance in [&ones, &sparse, &tiny, &vec![0.0; 256]] {
            freaks_beside_tame_blocks(to, &freaks, Some(importance));
        }
    }
    ones.fill(1.0);
    for to in GgmlType::ALL {
        freaks_beside_tame_blocks(to, &freaks, Some(&ones));
    }
}

#[test]
fn nan_and_infinity_never_panic() {
    let mut src = weights::realistic(256 * 20, 8);
    for (i, freak) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN].into_iter().enumerate() {
        src[256 * 3 * i + 17 * i] = freak;
        src[256 * (3 * i + 1)..256 * (3 * i + 2)].fill(freak);
    }
    let importance = weights::importance(256, 9);
    for to in GgmlType::ALL {
        let mut dst = vec![0; 20 * to.row_bytes(256).unwrap()];
        kernels::quantize(to, &src, 256, None, &mut dst).unwrap();
        kernels::quantize(to, &src, 256, Some(&importance), &mut dst).unwrap();
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let src = weights::realistic(512, 10);
    for (n_per_row, importance, bytes) in [(256, None, 143), (100, None, 144), (0, None, 144), (256, Some(3), 288)] {
        let importance = importance.map(|n| &src[..n]);
        assert!(kernels::quantize(GgmlType::Q4_K, &src, n_per_row, importance, &mut vec![0; bytes]).is_err());
    }
}

/// In sub-blocks of nearly equal values the fits are ill-conditioned, so every rounding changes the result.
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "compared on x86-64 only")]
fn nearly_constant_blocks_equal_ggml() {
    let seed = 11;
    println!("seed {seed}");
    let mut random = weights::Random::new(seed);
    let mut src = Vec::new();
    for _ in 0..30_000 {
        let base = -random.uniform() * 2f32.powi(random.bits() as i32 % 60 - 30);
        let (ulps, few) = (1 + random.bits() % 40, random.bits() % 24);
        for _ in 0..32 {
            let up = if random.bits() % 32 < few { 0 } else { (random.bits() % ulps) as u32 };
            src.push(f32::from_bits(base.to_bits() + up));
        }
    }
    let mut sparse = vec![0.0; 256];
    sparse.iter_mut().step_by(7).for_each(|w| *w = 1.0 + random.uniform());
    let spread: Vec<f32> = (0..256).map(|_| 10f32.powf(12.0 * random.uniform() - 6.0)).collect();
    for to in [GgmlType::Q2_K, GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q4_1, GgmlType::Q5_1, GgmlType::Q6_K] {
        for importance in [None, Some(&sparse[..]), Some(&spread[..])] {
            same(to, &src, 256, importance, "nearly flat");
        }
    }
}

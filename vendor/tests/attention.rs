//! Compares our attention with ggml's on the same numbers, and with the definition in f64.

use llama_ext::attention::Attention;
use llama_ext::f16_to_f32;

const HIDDEN: u16 = 0xfc00;

struct Noise(u32);

impl Noise {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % n
    }

    /// A number from -2 to 2.
    fn float(&mut self) -> f32 {
        self.below(4001) as f32 / 1000.0 - 2.0
    }

    /// The bits of a half float of the same range.
    fn half(&mut self) -> u16 {
        // sign, an exponent from 2^-6 to 1, any fraction
        u16::try_from(self.below(2) << 15 | (9 + self.below(7)) << 10 | self.below(1024)).unwrap()
    }
}

/// An attention over random numbers. `which(token, cell)` returns true if the token attends to the cell.
fn pool(
    seed: u32,
    (dim, n_head, n_head_kv): (usize, usize, usize),
    (n_tokens, n_kv): (usize, usize),
    which: impl Fn(usize, usize) -> bool,
) -> Attention {
    let mut noise = Noise(seed);
    let mask = (0..n_tokens * n_kv).map(|i| if which(i / n_kv, i % n_kv) { 0 } else { HIDDEN }).collect();
    Attention {
        dim,
        n_head,
        n_head_kv,
        q: (0..dim * n_head * n_tokens).map(|_| noise.float()).collect(),
        k: (0..dim * n_head_kv * n_kv).map(|_| noise.half()).collect(),
        v: (0..dim * n_head_kv * n_kv).map(|_| noise.half()).collect(),
        mask,
    }
}

/// Returns the attention in f64, computed by the definition.
fn exact(op: &Attention) -> Vec<f64> {
    let Attention { dim, n_head, n_head_kv, .. } = *op;
    let (n_tokens, n_kv) = (op.q.len() / dim / n_head, op.k.len() / dim / n_head_kv);
    let wide = |halves: &[u16]| -> Vec<f64> {
        let mut floats = vec![0.0; halves.len()];
        f16_to_f32(&halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>(), &mut floats).unwrap();
        floats.into_iter().map(f64::from).collect()
    };
    let (k, v, mask) = (wide(&op.k), wide(&op.v), wide(&op.mask));
    let mut out = vec![0.0; op.q.len()];
    for token in 0..n_tokens {
        for head in 0..n_head {
            let q = &op.q[(head * n_tokens + token) * dim..][..dim];
            let kv = head / (n_head / n_head_kv) * n_kv;
            let score = |cell: usize| {
                let dot: f64 = q.iter().zip(&k[(kv + cell) * dim..]).map(|(q, k)| f64::from(*q) * k).sum();
                dot / (dim as f64).sqrt() + mask[token * n_kv + cell]
            };
            let scores: Vec<f64> = (0..n_kv).map(score).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if top == f64::NEG_INFINITY {
                continue;
            }
            let p: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f64 = p.iter().sum();
            let out = &mut out[(token * n_head + head) * dim..][..dim];
            for (cell, p) in p.iter().enumerate() {
                for (out, v) in out.iter_mut().zip(&v[(kv + cell) * dim..]) {
                    *out += p / total * v;
                }
            }
        }
    }
    out
}

fn worst(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - b).abs())
        .fold(0.0, |worst, d| if d.is_nan() { f64::NAN } else { d.max(worst) })
}

/// A name, and whether a token attends to a cell.
type Pattern = (&'static str, fn(usize, usize) -> bool);

fn strided(token: usize, cell: usize) -> bool {
    cell >= 100 && cell % 16 == token % 16
}

#[test]
fn every_mask_pattern_equals_the_definition() {
    let patterns: [Pattern; 7] = [
        ("all", |_, _| true),
        ("causal", |token, cell| cell <= token),
        ("windows", |token, cell| cell / 29 == token),
        ("strided", strided),
        ("shared beginning", |token, cell| cell < 90 || strided(token, cell)),
        ("one cell", |token, cell| cell == 7 * token + 3),
        ("nothing", |token, cell| token != 2 && cell < 5),
    ];
    let shapes = [(64, 8, 1), (128, 4, 4), (80, 6, 3), (16, 2, 2), (256, 2, 1)];
    let sizes = [(4, 64), (16, 300), (17, 1000), (70, 512)];
    for (i, (name, which)) in patterns.iter().enumerate() {
        for (j, shape) in shapes.into_iter().enumerate() {
            let size = sizes[(i + j) % sizes.len()];
            for n_threads in [1, 3] {
                let op = pool(7 + i as u32, shape, size, which);
                let Some((ours, _)) = op.compute(true, n_threads, 1).unwrap() else {
                    eprintln!("SKIPPED: this build has no attention of its own");
                    return;
                };
                let (error, at) =
                    (worst(&ours, &exact(&op)), format!("{name}, {shape:?}, {size:?}, {n_threads} threads"));
                assert!(error < 2e-5, "{at}: {error}");
            }
        }
    }
}

#[test]
fn error_is_at_most_that_of_ggml() {
    let op = pool(3, (128, 8, 4), (20, 700), |token, cell| cell % 20 == token || cell < 256);
    let Some((ours, _)) = op.compute(true, 2, 1).unwrap() else { return };
    let (ggml, _) = op.compute(false, 2, 1).unwrap().expect("ggml takes everything");
    let exact = exact(&op);
    let (ours, ggml) = (worst(&ours, &exact), worst(&ggml, &exact));
    assert!(ours <= ggml && ggml < 1e-2, "ours {ours}, ggml {ggml}");
}

#[test]
fn finite_mask_values_are_added() {
    let mut op = pool(5, (64, 4, 2), (8, 128), |token, cell| cell < 16 * token + 8);
    let mut noise = Noise(9);
    op.mask.iter_mut().filter(|mark| **mark == 0).for_each(|mark| *mark = noise.half());
    let Some((ours, _)) = op.compute(true, 2, 1).unwrap() else { return };
    let error = worst(&ours, &exact(&op));
    assert!(error < 2e-5, "{error}");
}

#[test]
fn unsupported_shapes_are_left_to_ggml() {
    let few = pool(1, (64, 2, 2), (3, 64), |_, _| true);
    assert!(few.compute(true, 1, 1).unwrap().is_none(), "three tokens");
    let odd = pool(1, (40, 2, 2), (8, 64), |_, _| true);
    assert!(odd.compute(true, 1, 1).unwrap().is_none(), "heads of 40 values");
    let mut wrong = pool(1, (64, 2, 2), (8, 64), |_, _| true);
    wrong.mask.pop();
    assert!(wrong.compute(true, 1, 1).is_err(), "a mask that is too short");
}

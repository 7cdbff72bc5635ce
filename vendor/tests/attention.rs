//! Compares our attention with ggml's on the same numbers, and with the definition in f64. Seeds are printed.

use llama_ext::attention::Attention;
use llama_ext::{GgmlType, f16_to_f32, quantize_rows, to_f32};

const HIDDEN: u16 = 0xfc00;

struct Noise(u32);

impl Noise {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % n
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(u32::try_from(all.len()).unwrap()) as usize]
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

/// Sizes of an attention.
#[derive(Clone, Copy, Debug)]
struct Size {
    dim: usize,
    n_head: usize,
    n_head_kv: usize,
    n_tokens: usize,
    n_kv: usize,
}

/// The mask in which `which(token, cell)` tells whether the token sees the cell.
fn mask(size: Size, which: impl Fn(usize, usize) -> bool) -> Vec<u16> {
    let cells = (0..size.n_tokens).flat_map(|token| (0..size.n_kv).map(move |cell| (token, cell)));
    cells.map(|(token, cell)| if which(token, cell) { 0 } else { HIDDEN }).collect()
}

fn stored(kind: GgmlType, dim: usize, floats: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; floats.len() / dim * kind.row_bytes(dim).unwrap()];
    quantize_rows(kind, floats, dim, None, &mut bytes).unwrap();
    bytes
}

/// An attention over random numbers with keys of the first and values of the second type.
fn random(noise: &mut Noise, size: Size, kinds: [GgmlType; 2], mask: Vec<u16>) -> Attention {
    let Size { dim, n_head, n_head_kv, n_tokens, n_kv } = size;
    let q = (0..dim * n_head * n_tokens).map(|_| noise.float()).collect();
    let [k, v] = kinds.map(|kind| {
        let halves: Vec<u8> = (0..dim * n_head_kv * n_kv).flat_map(|_| noise.half().to_le_bytes()).collect();
        let mut floats = vec![0.0; halves.len() / 2];
        f16_to_f32(&halves, &mut floats).unwrap();
        stored(kind, dim, &floats)
    });
    Attention { dim, n_head, n_head_kv, k_type: kinds[0], v_type: kinds[1], q, k, v, mask }
}

const F16: [GgmlType; 2] = [GgmlType::F16; 2];

fn pool(
    seed: u32,
    (dim, n_head, n_head_kv): (usize, usize, usize),
    (n_tokens, n_kv): (usize, usize),
    which: impl Fn(usize, usize) -> bool,
) -> Attention {
    let size = Size { dim, n_head, n_head_kv, n_tokens, n_kv };
    random(&mut Noise(seed), size, F16, mask(size, which))
}

fn wide(kind: GgmlType, dim: usize, bytes: &[u8]) -> Vec<f64> {
    let mut floats = vec![0.0; bytes.len() / kind.row_bytes(dim).unwrap() * dim];
    to_f32(kind, bytes, &mut floats).unwrap();
    floats.into_iter().map(f64::from).collect()
}

/// Returns the attention in f64, computed by the definition.
fn exact(op: &Attention) -> Vec<f64> {
    let Attention { dim, n_head, n_head_kv, .. } = *op;
    let (k, v) = (wide(op.k_type, dim, &op.k), wide(op.v_type, dim, &op.v));
    let (n_tokens, n_kv) = (op.q.len() / dim / n_head, k.len() / dim / n_head_kv);
    let mask: Vec<u8> = op.mask.iter().flat_map(|half| half.to_le_bytes()).collect();
    let mask = wide(GgmlType::F16, n_kv, &mask);
    // The scale is a parameter of the operation, in f32.
    let scale = f64::from(1.0 / (dim as f32).sqrt());
    let mut out = vec![0.0; op.q.len()];
    for token in 0..n_tokens {
        for head in 0..n_head {
            let q = &op.q[(head * n_tokens + token) * dim..][..dim];
            let kv = head / (n_head / n_head_kv) * n_kv;
            let score = |cell: usize| {
                let dot: f64 = q.iter().zip(&k[(kv + cell) * dim..]).map(|(q, k)| f64::from(*q) * k).sum();
                dot * scale + mask[token * n_kv + cell]
            };
            let cells: Vec<usize> = (0..n_kv).filter(|cell| op.mask[token * n_kv + cell] != HIDDEN).collect();
            let scores: Vec<f64> = cells.iter().map(|cell| score(*cell)).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let p: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let total: f64 = p.iter().sum();
            let out = &mut out[(token * n_head + head) * dim..][..dim];
            for (cell, p) in cells.iter().zip(&p) {
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

/// The root mean square of the error.
fn rms(a: &[f32], b: &[f64]) -> f64 {
    (a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>() / a.len() as f64).sqrt()
}

/// A name, and whether a token attends to a cell.
type Pattern = (&'static str, fn(usize, usize) -> bool);

fn strided(token: usize, cell: usize) -> bool {
    cell >= 100 && cell % 16 == token % 16
}

#[test]
fn a_token_does_not_depend_on_how_many_follow_it_in_its_sequence() {
    for (dim, n_head, n_head_kv) in [(64, 32, 4), (64, 4, 4), (128, 8, 2), (32, 7, 7)] {
        for (first, n_tokens) in [(0, 32), (62, 5), (63, 2), (200, 8), (700, 17)] {
            // The sequence has every third cell of the pool.
            let n_kv = 3 * (first + n_tokens);
            let sees = |token: usize, cell: usize| cell.is_multiple_of(3) && cell <= 3 * (first + token);
            let all = pool(9, (dim, n_head, n_head_kv), (n_tokens, n_kv), sees);
            for n_threads in [1, 2, 4] {
                let Some((together, _)) = all.compute(true, n_threads, 1).unwrap() else { return };
                for token in 0..n_tokens {
                    let of_head = |head: usize| &all.q[(head * n_tokens + token) * dim..][..dim];
                    let q = (0..n_head).flat_map(of_head).copied().collect();
                    let mask = all.mask[token * n_kv..][..n_kv].to_vec();
                    let (alone, _) = Attention { q, mask, ..all.clone() }.compute(true, n_threads, 1).unwrap().unwrap();
                    assert!(
                        alone == together[token * n_head * dim..][..n_head * dim],
                        "token {token} of {n_tokens}, {n_head} heads, {n_threads} threads"
                    );
                }
            }
        }
    }
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
    let shapes = [(64, 8, 1), (128, 4, 4), (80, 6, 3), (16, 2, 2), (256, 2, 1), (64, 32, 1), (32, 71, 1)];
    let sizes = [(4, 64), (16, 300), (17, 1000), (70, 512), (1, 700), (2, 33)];
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
                assert!(error < 2e-6, "{at}: {error}");
            }
        }
    }
}

/// A mask of random sequences in a pool: a common beginning that some sequences have, cells of their own in any order,
/// and one or several tokens of each.
fn random_mask(noise: &mut Noise, size: Size) -> Vec<u16> {
    let n_seqs = 1 + noise.below(u32::try_from(size.n_tokens).unwrap()) as usize;
    let beginning = if noise.below(2) == 0 { 0 } else { noise.below(u32::try_from(size.n_kv).unwrap()) as usize };
    let with_beginning: Vec<bool> = (0..n_seqs).map(|_| noise.below(4) > 0).collect();
    let run = noise.one_of(&[1, 1, 7, 57, 200]);
    // usize::MAX: a free cell
    let free = noise.below(3);
    let owner: Vec<usize> =
        (0..size.n_kv).map(|cell| if noise.below(4) < free { usize::MAX } else { cell / run % n_seqs }).collect();
    let causal = noise.below(2) == 0;
    mask(size, |token, cell| {
        let seq = token % n_seqs;
        let later = causal && size.n_kv - cell <= (size.n_tokens - 1 - token) / n_seqs;
        !later && if cell < beginning { with_beginning[seq] } else { owner[cell] == seq }
    })
}

/// A random attention, with numbers of different kinds.
fn random_attention(noise: &mut Noise) -> (Attention, String) {
    let n_head_kv = noise.one_of(&[1, 2, 3, 4]);
    let n_head = n_head_kv * noise.one_of(&[1, 1, 2, 3, 4, 8, 16]);
    let kinds = [noise.one_of(&[GgmlType::F16, GgmlType::Q8_0]), noise.one_of(&[GgmlType::F16, GgmlType::Q8_0])];
    let dims: &[usize] = if kinds == F16 { &[16, 48, 64, 80, 128, 256] } else { &[32, 64, 96, 128, 256] };
    let n_tokens = noise.one_of(&[1, 2, 3, 5, 16, 17, 33, 64, 90]);
    let size = Size { dim: noise.one_of(dims), n_head, n_head_kv, n_tokens, n_kv: 1 + noise.below(600) as usize };
    let mask = random_mask(noise, size);
    let mut op = random(noise, size, kinds, mask);
    let numbers = noise.one_of(&["usual", "a massive coordinate", "large scores", "tiny"]);
    for (i, q) in op.q.iter_mut().enumerate() {
        *q *= match numbers {
            "a massive coordinate" if i % size.dim == 5 => 1000.0,
            "large scores" => 30.0,
            "tiny" => 1e-20,
            _ => 1.0,
        };
    }
    (op, format!("{size:?}, {kinds:?}, {numbers}"))
}

/// An error of this size is from roundings of f32 scores: the values are up to 2.
const ROUNDINGS: f64 = 2e-7;

#[test]
fn error_is_at_most_that_of_ggml_for_random_batches() {
    let seed = std::env::var("TULU_QUANT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126);
    let rounds = std::env::var("TULU_QUANT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60);
    println!("seed {seed}");
    let mut noise = Noise(seed);
    for round in 0..rounds {
        let (op, what) = random_attention(&mut noise);
        let n_threads = noise.one_of(&[1, 2, 3]);
        let Some((ours, _)) = op.compute(true, n_threads, 1).unwrap() else { return };
        let (ggml, _) = op.compute(false, n_threads, 1).unwrap().expect("ggml takes everything");
        let exact = exact(&op);
        let (ours_rms, ggml_rms) = (rms(&ours, &exact), rms(&ggml, &exact));
        // Where ggml computes in f32 too, both errors are roundings, and either can be the smaller one.
        let roundings = ours_rms < ROUNDINGS && ours_rms < 1.5 * ggml_rms;
        assert!(
            ours_rms <= ggml_rms || roundings,
            "seed {seed}, round {round}: {what}: ours {ours_rms:e}, ggml {ggml_rms:e}"
        );
        let again = op.compute(true, n_threads, 1).unwrap().expect("as before").0;
        assert!(ours == again, "seed {seed}, round {round}: {what}: other bits in the second run");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_place_of_cells_in_the_pool() {
    for (n_tokens, n_threads) in [(1, 2), (16, 2), (40, 3)] {
        let size = Size { dim: 64, n_head: 8, n_head_kv: 2, n_tokens, n_kv: 500 };
        let which = |token: usize, cell: usize| cell < 150 || cell % n_tokens == token;
        let dense = random(&mut Noise(11), size, F16, mask(size, which));
        // The same cells with free ones in between: cell i moves to place(i).
        let place = |cell: usize| cell + 13 + cell / 3;
        let wider = Size { n_kv: 768, ..size };
        let mut moved = Attention { mask: vec![HIDDEN; n_tokens * wider.n_kv], ..dense.clone() };
        let row = 2 * size.dim;
        for (from, to) in [(&dense.k, &mut moved.k), (&dense.v, &mut moved.v)] {
            *to = vec![0x7e; size.n_head_kv * wider.n_kv * row];
            for (head, cell) in (0..size.n_head_kv).flat_map(|head| (0..size.n_kv).map(move |cell| (head, cell))) {
                let (at, new) = ((head * size.n_kv + cell) * row, (head * wider.n_kv + place(cell)) * row);
                to[new..new + row].copy_from_slice(&from[at..at + row]);
            }
        }
        for (token, cell) in (0..n_tokens).flat_map(|token| (0..size.n_kv).map(move |cell| (token, cell))) {
            moved.mask[token * wider.n_kv + place(cell)] = dense.mask[token * size.n_kv + cell];
        }
        let Some((before, _)) = dense.compute(true, n_threads, 1).unwrap() else { return };
        let (after, _) = moved.compute(true, n_threads, 1).unwrap().expect("as before");
        assert!(before == after, "{n_tokens} tokens");
    }
}

#[test]
fn each_step_uses_its_own_mask() {
    let size = Size { dim: 64, n_head: 4, n_head_kv: 2, n_tokens: 8, n_kv: 256 };
    let op = random(&mut Noise(13), size, F16, mask(size, |token, cell| cell % 8 == token));
    let earlier = mask(size, |token, cell| cell < 40 + token);
    let Some((ours, _)) = op.compute_after(Some(&earlier), true, 2, 2).unwrap() else { return };
    let error = worst(&ours, &exact(&op));
    assert!(error < 2e-6, "{error}");
}

#[test]
fn finite_mask_values_are_added() {
    let mut op = pool(5, (64, 4, 2), (8, 128), |token, cell| cell < 16 * token + 8);
    let mut noise = Noise(9);
    op.mask.iter_mut().filter(|mark| **mark == 0).for_each(|mark| *mark = noise.half());
    let Some((ours, _)) = op.compute(true, 2, 1).unwrap() else { return };
    let error = worst(&ours, &exact(&op));
    assert!(error < 2e-6, "{error}");
}

#[test]
fn unsupported_shapes_are_left_to_ggml() {
    let odd = pool(1, (40, 2, 2), (8, 64), |_, _| true);
    assert!(odd.compute(true, 1, 1).unwrap().is_none(), "heads of 40 values");
    let size = Size { dim: 32, n_head: 2, n_head_kv: 2, n_tokens: 8, n_kv: 64 };
    let q4 = random(&mut Noise(1), size, [GgmlType::F16, GgmlType::Q4_0], mask(size, |_, _| true));
    assert!(q4.compute(true, 1, 1).unwrap().is_none(), "q4_0 values");
    let mut wrong = pool(1, (64, 2, 2), (8, 64), |_, _| true);
    wrong.mask.pop();
    assert!(wrong.compute(true, 1, 1).is_err(), "a mask that is too short");
}

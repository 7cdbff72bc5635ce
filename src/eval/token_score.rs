//! Scores one token: its negative log-likelihood, and the difference between two distributions of the next token. The
//! definitions are those of llama-perplexity.

/// Values that are added in one accumulator each, so that the compiler uses vectors.
const LANES: usize = 16;
/// Values whose exponentials are added in f32 before the sum continues in f64.
const BLOCK: usize = 1024;

/// The score of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct TokenScore {
    /// Negative log-likelihood, in nats.
    pub(crate) nll: f32,
    /// Kullback-Leibler divergence of the distribution from the base's, in nats: Σ p(base) · ln(p(base) / p).
    pub(crate) kl: f32,
    /// Probability of the token minus its probability in the base.
    pub(crate) p_diff: f32,
    /// Whether both have the same most likely token.
    pub(crate) same_top: bool,
}

/// A distribution over the vocabulary, as logits with what normalises them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distribution<'a> {
    logits: &'a [f32],
    /// The most likely token; the first of equals.
    top: usize,
    /// ln Σ exp(logit): subtract it from a logit to get the logarithm of a probability.
    log_sum: f64,
}

impl<'a> Distribution<'a> {
    /// Normalises logits. `None` when one is NaN or infinite, or there are none.
    pub(crate) fn new(logits: &'a [f32]) -> Option<Self> {
        let (mut top, mut max) = (0, f32::NEG_INFINITY);
        for (i, logit) in logits.iter().enumerate() {
            if *logit > max {
                (top, max) = (i, *logit);
            }
        }
        let sum: f64 = logits.chunks(BLOCK).map(|block| f64::from(sum(block, |logit| exp(logit - max)))).sum();
        let finite = max.is_finite() && sum.is_finite();
        finite.then_some(Self { logits, top, log_sum: f64::from(max) + sum.ln() })
    }

    /// Returns the negative log-likelihood of `token`, in nats.
    pub(crate) fn nll(&self, token: usize) -> f64 {
        self.logits.get(token).map_or(f64::NAN, |logit| self.log_sum - f64::from(*logit))
    }

    /// Writes the probabilities of all tokens to `out`.
    pub(crate) fn probabilities(&self, out: &mut Vec<f32>) {
        let log_sum = self.log_sum as f32;
        out.clear();
        out.extend(self.logits.iter().map(|logit| exp(logit - log_sum)));
    }

    /// Scores `token`, compared with `base`, whose probabilities are `p`.
    pub(crate) fn compare(&self, base: &Distribution<'_>, p: &[f32], token: usize) -> TokenScore {
        // ln p(base) - ln p, with the large parts of both logits subtracted first: the difference is exact to a few ulp.
        let shift = (base.log_sum - self.log_sum) as f32;
        let blocks = p.chunks(BLOCK).zip(base.logits.chunks(BLOCK).zip(self.logits.chunks(BLOCK)));
        let kl: f64 = blocks.map(|(p, (base, own))| f64::from(weighted(p, base, own, shift))).sum();
        let (nll, base_nll) = (self.nll(token), base.nll(token));
        TokenScore {
            nll: nll as f32,
            kl: kl as f32,
            p_diff: ((-nll).exp() - (-base_nll).exp()) as f32,
            same_top: self.top == base.top,
        }
    }
}

/// Returns Σ p · (base − own − shift).
fn weighted(p: &[f32], base: &[f32], own: &[f32], shift: f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (p, p_rest) = p.as_chunks::<LANES>();
    let (base, base_rest) = base.as_chunks::<LANES>();
    let (own, own_rest) = own.as_chunks::<LANES>();
    for ((p, base), own) in p.iter().zip(base).zip(own) {
        for i in 0..LANES {
            lanes[i] += p[i] * (base[i] - own[i] - shift);
        }
    }
    let rest: f32 = p_rest.iter().zip(base_rest).zip(own_rest).map(|((p, base), own)| p * (base - own - shift)).sum();
    lanes.iter().sum::<f32>() + rest
}

fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        for i in 0..LANES {
            lanes[i] += of(values[i]);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|value| of(*value)).sum::<f32>()
}

/// Returns e^x for x ≤ 0, with a relative error below 2e-7; NaN for NaN. The compiler can use vectors for it, which it
/// cannot for the standard library's.
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that n · ln 2 is exact in the first.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Below this the result is 0 for a sum over a vocabulary.
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Coefficients of Cephes' expf.
    let mut y = 1.987_569_1e-4_f32;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        y = y * r + coefficient;
    }
    let y = y * r * r + r + 1.0;
    let power = rounded.to_bits().wrapping_add(127).wrapping_shl(23);
    y * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::{Distribution, exp};

    /// Pseudo-random logits from a linear congruential generator.
    fn logits(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..n).map(|_| 20.0 * (next() + next() - 1.0)).collect()
    }

    #[test]
    fn exp_is_exact_to_single_precision() {
        for i in 0..87_000 {
            let x = -(i as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 2e-7 * exact, "{x}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn scores_are_those_of_the_definition_in_f64() {
        for n in [1, 15, 16, 1023, 1024, 1537, 32_000] {
            let (base, own) = (logits(n, 1), logits(n, 2));
            let log_p = |logits: &[f32]| -> Vec<f64> {
                let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
                logits.iter().map(|x| f64::from(*x) - sum.ln()).collect()
            };
            let (p, q) = (log_p(&base), log_p(&own));
            let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            let (base, own) = (Distribution::new(&base).unwrap(), Distribution::new(&own).unwrap());
            let mut probabilities = Vec::new();
            base.probabilities(&mut probabilities);
            let score = own.compare(&base, &probabilities, n / 2);
            assert!((f64::from(score.kl) - kl).abs() <= 1e-5 * kl + 1e-6, "{n}: {} {kl}", score.kl);
            assert!((f64::from(score.nll) + q[n / 2]).abs() < 1e-5, "{n}");
            assert!((f64::from(score.p_diff) - (q[n / 2].exp() - p[n / 2].exp())).abs() < 1e-6, "{n}");
        }
    }

    #[test]
    fn nan_and_infinity_are_refused() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut all = logits(100, 3);
            all[70] = wrong;
            assert!(Distribution::new(&all).is_none());
        }
        assert!(Distribution::new(&[]).is_none());
        assert!(Distribution::new(&[f32::NEG_INFINITY; 4]).is_none());
    }
}

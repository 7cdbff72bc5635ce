//! Numbers of all scored tokens. The formulas are those of llama-perplexity (`tools/perplexity/perplexity.cpp`), so that
//! the results can be compared.

use super::token_score::TokenScore;

/// A mean and its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) error: f64,
}

/// Fewest values for an estimate of the error.
const VALUES_MIN: usize = 10;

/// Returns the mean of `values`, and its standard error: √((mean of squares − square of mean) / (n − 1)).
fn mean(values: impl Iterator<Item = f64>) -> Estimate {
    let (mut n, mut sum, mut squares) = (0_usize, 0.0, 0.0);
    for value in values {
        n += 1;
        sum += value;
        squares += value * value;
    }
    if n == 0 {
        return Estimate::default();
    }
    let value = sum / n as f64;
    let variance = squares / n as f64 - value * value;
    let error = if n > VALUES_MIN && variance > 0.0 { (variance / (n - 1) as f64).sqrt() } else { 0.0 };
    Estimate { value, error }
}

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Perplexity {
    /// e^(mean negative log-likelihood), and its error.
    pub(crate) ppl: Estimate,
    /// Mean negative log-likelihood, in nats.
    pub(crate) nll: Estimate,
    /// Number of scored tokens.
    pub(crate) n_tokens: usize,
}

impl Perplexity {
    /// Computes it from the scores of all tokens.
    pub(crate) fn of(scores: &[TokenScore]) -> Self {
        let nll = mean(scores.iter().map(|score| f64::from(score.nll)));
        let value = nll.value.exp();
        Self { ppl: Estimate { value, error: value * nll.error }, nll, n_tokens: scores.len() }
    }
}

/// How far a model is from the base. Divergences are in nats, probabilities between 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Divergence {
    /// ln(perplexity / perplexity of the base).
    pub(crate) log_ratio: Estimate,
    /// Kullback-Leibler divergence: mean.
    pub(crate) kl: Estimate,
    /// … median.
    pub(crate) kl_median: f64,
    /// … percentiles: [`PERCENTILES`].
    pub(crate) kl_percentiles: [f64; 4],
    /// … largest value.
    pub(crate) kl_max: f64,
    /// Share of tokens for which both have the same most likely token.
    pub(crate) same_top: Estimate,
    /// Probability of the token minus that in the base: mean.
    pub(crate) p_diff: Estimate,
    /// … root of the mean square.
    pub(crate) p_diff_rms: Estimate,
}

/// The percentiles that are computed.
pub(crate) const PERCENTILES: [f64; 4] = [0.9, 0.95, 0.99, 0.999];

impl Divergence {
    /// Computes it from the scores of all tokens; `base` are the scores of the base.
    pub(crate) fn of(scores: &[TokenScore], base: &[TokenScore]) -> Self {
        let n = scores.len().max(1) as f64;
        let mut sorted: Vec<f32> = scores.iter().map(|score| score.kl).collect();
        sorted.sort_by(f32::total_cmp);
        let same = scores.iter().filter(|score| score.same_top).count() as f64 / n;
        let squares = mean(scores.iter().map(|score| f64::from(score.p_diff).powi(2)));
        let rms = squares.value.sqrt();
        Self {
            log_ratio: log_ratio(scores, base),
            kl: mean(scores.iter().map(|score| f64::from(score.kl))),
            kl_median: percentile(&sorted, 0.5),
            kl_percentiles: PERCENTILES.map(|fraction| percentile(&sorted, fraction)),
            kl_max: sorted.last().copied().unwrap_or(0.0).into(),
            same_top: Estimate { value: same, error: (same * (1.0 - same) / (n - 1.0).max(1.0)).sqrt() },
            p_diff: mean(scores.iter().map(|score| f64::from(score.p_diff))),
            p_diff_rms: Estimate { value: rms, error: if rms > 0.0 { 0.5 / rms * squares.error } else { 0.0 } },
        }
    }
}

/// Returns the difference of the mean negative log-likelihoods. Both are of the same tokens, so their covariance makes the
/// error smaller.
fn log_ratio(scores: &[TokenScore], base: &[TokenScore]) -> Estimate {
    let nll = |scores: &[TokenScore]| mean(scores.iter().map(|score| f64::from(score.nll)));
    let (own, base_nll) = (nll(scores), nll(base));
    let products = scores.iter().zip(base).map(|(own, base)| f64::from(own.nll) * f64::from(base.nll));
    let n = scores.len();
    let covariance = match n {
        0..VALUES_MIN => 0.0,
        _ => (products.sum::<f64>() / n as f64 - own.value * base_nll.value) / (n - 1) as f64,
    };
    let variance = own.error.powi(2) + base_nll.error.powi(2) - 2.0 * covariance;
    Estimate { value: own.value - base_nll.value, error: variance.max(0.0).sqrt() }
}

/// Returns the value below which `fraction` of the `sorted` values are, interpolated between two values.
fn percentile(sorted: &[f32], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = fraction.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let value = |i: usize| f64::from(sorted[i.min(last)]);
    (1.0 - part) * value(below) + part * value(below + 1)
}

#[cfg(test)]
mod tests {
    use super::{Divergence, Perplexity, percentile};
    use crate::eval::token_score::TokenScore;

    #[test]
    fn percentiles_are_interpolated() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|at| (percentile(&sorted, at) * 1e6).round() / 1e6), [1.0, 2.5, 3.7, 4.0]);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn equal_models_differ_by_nothing() {
        let scores: Vec<TokenScore> =
            (0..100).map(|i| TokenScore { nll: i as f32 / 10.0, same_top: true, ..TokenScore::default() }).collect();
        let divergence = Divergence::of(&scores, &scores);
        assert_eq!(divergence.kl.value, 0.0);
        assert_eq!(divergence.same_top.value, 1.0);
        assert!(divergence.log_ratio.value.abs() < 1e-12 && divergence.log_ratio.error < 1e-6);
        let perplexity = Perplexity::of(&scores);
        assert!((perplexity.ppl.value - 4.95_f64.exp()).abs() < 1e-3 * perplexity.ppl.value);
    }
}

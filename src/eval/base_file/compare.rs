//! Compares a subject with a stored distribution of the base.

use super::super::token_score::{Distribution, TokenScore};
use super::row_facts::RowFacts;

/// Scores `token`. `stored` is the stored distribution, `p` its probabilities, `facts` what is known exactly.
pub(crate) fn compare(
    subject: &Distribution<'_>,
    stored: &Distribution<'_>,
    p: &[f32],
    facts: &RowFacts,
    token: usize,
) -> TokenScore {
    let score = subject.compare(stored, p, token);
    TokenScore {
        kl: score.kl - facts.correction,
        kl_bound: facts.bound(subject.squared_ratio(stored, p)) as f32,
        p_diff: ((-f64::from(score.nll)).exp() - (-f64::from(facts.nll)).exp()) as f32,
        same_top: u32::try_from(subject.top()).is_ok_and(|top| top == facts.top),
        ..score
    }
}

#[cfg(test)]
mod tests {
    use super::super::row_facts::RowFacts;
    use super::compare;
    use crate::eval::token_score::Distribution;

    /// Pseudo-random numbers between -1 and 1.
    fn noise(n: usize, seed: u32) -> Vec<f32> {
        // SplitMix64: unlike those of a linear congruence, the sequences of different seeds are independent
        let number = |i: usize| {
            let mut z = ((u64::from(seed) << 32) + i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(number).collect()
    }

    #[test]
    fn the_bound_holds_and_the_error_averages_out() {
        let n = 2000;
        let (mut sum, mut exact_sum, mut errors) = (0.0, 0.0, 0.0);
        for round in 0..50 {
            let base: Vec<f32> = noise(n, round).iter().map(|x| 6.0 * x).collect();
            let plus = |by: f32, seed: u32| -> Vec<f32> {
                base.iter().zip(noise(n, seed)).map(|(x, noise)| x + by * noise).collect()
            };
            let (subject, stored) = (plus(0.05, round + 1000), plus(0.03, round + 2000));
            let of = |logits| Distribution::new(logits).unwrap();
            let (base, subject, stored) = (of(&base), of(&subject), of(&stored));
            let token = round as usize;
            let facts = RowFacts::new(
                base.nll(token) as f32,
                base.top(),
                &base.log_probabilities(),
                &stored.log_probabilities(),
            );
            let (mut p, mut p_base) = (Vec::new(), Vec::new());
            stored.probabilities(&mut p);
            base.probabilities(&mut p_base);
            let exact = subject.compare(&base, &p_base, token);
            let score = compare(&subject, &stored, &p, &facts, token);
            assert!((score.kl - exact.kl).abs() <= score.kl_bound, "{score:?} {exact:?}");
            assert_eq!((score.nll, score.same_top), (exact.nll, exact.same_top));
            assert!((score.p_diff - exact.p_diff).abs() < 1e-6);
            sum += score.kl;
            exact_sum += exact.kl;
            errors += (score.kl - exact.kl).abs();
        }
        assert!((sum - exact_sum).abs() < errors / 3.0, "{sum} {exact_sum} {errors}");
        assert!((sum / exact_sum - 1.0).abs() < 0.02, "{sum} {exact_sum}");
    }
}

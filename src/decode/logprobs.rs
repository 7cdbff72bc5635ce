//! Log probabilities of generated tokens: log-softmax of the model's logits, before temperature and penalties, as in
//! OpenAI's `logprobs`. They are computed only for requests with `logprobs`.

use crate::engine::{Token, Vocab};

/// The smallest log probability that is returned; JSON has no infinity.
const MIN_LOGPROB: f32 = -9999.0;

/// A token and its log probability.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Likely {
    /// Its text as bytes, which may be incomplete characters. For a special token, its name.
    pub(crate) piece: Vec<u8>,
    /// Natural logarithm of its probability.
    pub(crate) logprob: f32,
}

/// A generated token, with the most likely tokens at its position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenLogprob {
    /// The token itself.
    pub(crate) chosen: Likely,
    /// The most likely tokens, in descending order; as many as requested.
    pub(crate) top: Vec<Likely>,
}

/// Returns the log probability of `token`, and those of the `n_top` most likely tokens.
pub(super) fn logprob(logits: &[f32], token: Token, n_top: usize, vocab: &Vocab<'_>) -> TokenLogprob {
    let (chosen, top) = log_softmax(logits, usize::try_from(token.0).unwrap_or(0), n_top);
    let likely = |(id, logprob): (usize, f32)| {
        let id = Token::new(i32::try_from(id).unwrap_or(i32::MAX));
        Likely { piece: vocab.shown(id), logprob }
    };
    TokenLogprob { chosen: likely(chosen), top: top.into_iter().map(likely).collect() }
}

/// Returns id and log probability of `chosen` and of the `n_top` most likely tokens, in descending order; equal ones in
/// the order of their ids.
fn log_softmax(logits: &[f32], chosen: usize, n_top: usize) -> ((usize, f32), Vec<(usize, f32)>) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let norm = f64::from(max) + sum.ln();
    let of = |i: usize| {
        let logprob = logits.get(i).map_or(f64::NEG_INFINITY, |logit| f64::from(*logit) - norm);
        (i, (logprob as f32).max(MIN_LOGPROB))
    };
    (of(chosen), largest(logits, n_top).into_iter().map(of).collect())
}

/// Returns the ids of the `n` largest logits, the largest first.
fn largest(logits: &[f32], n: usize) -> Vec<usize> {
    // A sorted list of `n` ids. Nearly every logit is smaller than the last in the list, so it needs only one
    // comparison.
    let mut best: Vec<usize> = Vec::with_capacity(n.min(logits.len()) + 1);
    let below = |a: usize, b: usize| logits[a].total_cmp(&logits[b]).is_lt();
    for i in 0..logits.len() {
        if best.len() == n && best.last().is_none_or(|last| !below(*last, i)) {
            continue;
        }
        // Equal logits keep the order of their ids.
        let at = best.partition_point(|other| !below(*other, i));
        best.insert(at, i);
        best.truncate(n);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::{MIN_LOGPROB, largest, log_softmax};

    #[test]
    fn the_largest_are_the_same_as_with_a_full_sort() {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few distinct values, so that many logits are equal.
            (state >> 26) as f32 - 20.0
        };
        let logits: Vec<f32> = (0..500).map(|_| next()).collect();
        let mut sorted: Vec<usize> = (0..logits.len()).collect();
        sorted.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        for n in [0, 1, 5, 20, 499, 500, 501] {
            assert_eq!(largest(&logits, n), sorted[..n.min(500)], "{n}");
        }
    }

    #[test]
    fn probabilities_add_up_and_the_best_come_first() {
        let logits = [0.0, 3.0, -1.0, 3.0, 2.0, f32::NEG_INFINITY];
        let (chosen, top) = log_softmax(&logits, 4, 3);
        assert_eq!(top.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(chosen, top[2]);
        let (impossible, all) = log_softmax(&logits, 5, 99);
        assert_eq!((impossible.1, all.len()), (MIN_LOGPROB, 6));
        let sum: f64 = all.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(log_softmax(&logits, 0, 0).1, []);
    }
}

//! How likely the tokens of an answer were: log-softmax of the model's own logits, before temperature and penalties, as
//! OpenAI's `logprobs` have it. Computed only for requests that ask.

use crate::engine::{Token, Vocab};

/// The smallest logarithm given out; JSON has no infinity.
const LEAST: f32 = -9999.0;

/// A token and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Likely {
    /// What it says: bytes, not always whole characters. A control token says its name.
    pub(crate) piece: Vec<u8>,
    /// Natural logarithm of its probability.
    pub(crate) logprob: f32,
}

/// One token of an answer, with the likeliest tokens at its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenLogprob {
    /// The token itself.
    pub(crate) chosen: Likely,
    /// The likeliest, best first: as many as were asked for.
    pub(crate) top: Vec<Likely>,
}

/// What `token` was worth among `logits`, and the `n_top` best.
pub(super) fn logprob(logits: &[f32], token: Token, n_top: usize, vocab: &Vocab<'_>) -> TokenLogprob {
    let (chosen, top) = numbers(logits, usize::try_from(token.0).unwrap_or(0), n_top);
    let likely = |(id, logprob): (usize, f32)| {
        let id = Token::new(i32::try_from(id).unwrap_or(i32::MAX));
        Likely { piece: vocab.shown(id), logprob }
    };
    TokenLogprob { chosen: likely(chosen), top: top.into_iter().map(likely).collect() }
}

/// Ids and logarithms; equal ones in the order of their ids.
fn numbers(logits: &[f32], chosen: usize, n_top: usize) -> ((usize, f32), Vec<(usize, f32)>) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let norm = f64::from(max) + sum.ln();
    let of = |i: usize| {
        let logprob = logits.get(i).map_or(f64::NEG_INFINITY, |logit| f64::from(*logit) - norm);
        (i, (logprob as f32).max(LEAST))
    };
    (of(chosen), largest(logits, n_top).into_iter().map(of).collect())
}

/// The ids of the `n` largest, the largest first.
fn largest(logits: &[f32], n: usize) -> Vec<usize> {
    // A list of `n` in order: nearly every logit is below the last of it, and costs one comparison.
    let mut best: Vec<usize> = Vec::with_capacity(n.min(logits.len()) + 1);
    let below = |a: usize, b: usize| logits[a].total_cmp(&logits[b]).is_lt();
    for i in 0..logits.len() {
        if best.len() == n && best.last().is_none_or(|last| !below(*last, i)) {
            continue;
        }
        // Equal ones that came before stay before.
        let at = best.partition_point(|other| !below(*other, i));
        best.insert(at, i);
        best.truncate(n);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::{LEAST, largest, numbers};

    #[test]
    fn the_largest_are_those_that_sorting_gives() {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Few values, so that many are equal.
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
        let (chosen, top) = numbers(&logits, 4, 3);
        assert_eq!(top.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(chosen, top[2]);
        let (impossible, all) = numbers(&logits, 5, 99);
        assert_eq!((impossible.1, all.len()), (LEAST, 6));
        let sum: f64 = all.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(numbers(&logits, 0, 0).1, []);
    }
}

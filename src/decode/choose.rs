//! Chooses the next token of every request with new logits, on several threads if that saves time, because the engine's
//! threads are idle between two steps. The result does not depend on the number of threads.

use super::active_request::ActiveRequest;
use super::draft::Guess;
use super::logprobs::{TokenLogprob, logprob};
use crate::engine::{Token, Vocab};
use crate::error::{Code, Failure};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Minimum work for an additional thread, in microseconds. Starting a thread takes about 30.
const WORTH_A_THREAD: u32 = 300;
/// Time for the log probabilities of one token, in microseconds for 1000 tokens of the vocabulary: one exponential each.
const LOGPROBS_COST: u32 = 5;

/// Tokens to choose for one request.
pub(super) struct Choice<'a> {
    pub(super) request: &'a mut ActiveRequest,
    /// The logits of the next token, and of the tokens after each guessed one.
    pub(super) logits: Vec<&'a [f32]>,
    /// Guesses of the next tokens; one fewer than `logits`.
    pub(super) guess: &'a Guess,
}

/// A chosen token, with its log probabilities if the request asks for them.
pub(super) type Chosen = (Token, Option<TokenLogprob>);

impl Choice<'_> {
    /// Chooses the next token; if it is the guessed one, also the token after it, and so on: speculative sampling
    /// (arXiv:2211.17192) in its exact form. A guess without a distribution is certain of its token. Then the plain
    /// choice is this form: it is the guessed token with the token's probability, and otherwise comes from the rest of
    /// the distribution. It takes one random number for every token, as without guesses.
    fn make(&mut self, vocab: &Vocab<'_>) -> Option<Vec<Chosen>> {
        let mut all = Vec::new();
        for (i, logits) in self.logits.iter().enumerate() {
            let (guessed, proposal) = (self.guess.tokens.get(i), self.guess.proposals.get(i));
            let sampler = &mut self.request.sampler;
            let token = match guessed.zip(proposal) {
                Some((guessed, proposal)) => sampler.choose_after(logits, *guessed, proposal),
                None => sampler.choose(logits),
            }?;
            let token = self.request.given_token(i).unwrap_or(token);
            all.push((token, self.request.n_top.map(|n_top| logprob(logits, token, usize::from(n_top), vocab))));
            if guessed != Some(&token) || vocab.is_end(token) {
                break;
            }
        }
        Some(all)
    }

    fn cost(&self) -> u32 {
        let n_vocab = self.logits.first().map_or(0, |logits| logits.len());
        let thousands = u32::try_from(n_vocab / 1000).unwrap_or(u32::MAX);
        let logprobs = if self.request.n_top.is_some() { LOGPROBS_COST.saturating_mul(thousands) } else { 0 };
        let one = self.request.sampler.cost(n_vocab).saturating_add(logprobs);
        one.saturating_mul(u32::try_from(self.logits.len()).unwrap_or(1))
    }
}

/// Makes the `choices` on up to `n_threads` threads. Returns the tokens of each, at least one, in the same order. NaN
/// logits are an error (`NAN`).
pub(super) fn choose(
    choices: &mut [Choice<'_>],
    vocab: &Vocab<'_>,
    n_threads: usize,
) -> Result<Vec<Vec<Chosen>>, Failure> {
    let cost = choices.iter().map(Choice::cost).fold(0, u32::saturating_add);
    let n_threads = n_threads.min((cost / WORTH_A_THREAD) as usize);
    let made = on_threads(choices, n_threads, |choice| choice.make(vocab));
    made.into_iter()
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Failure::engine(Code::Nan, "the model produced NaN logits", "verify the model file"))
}

/// Applies `each` to the items on this thread and up to `n_threads` - 1 others; returns the results in the order of the
/// items.
fn on_threads<T: Send, R: Send>(items: &mut [T], n_threads: usize, each: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
    let queue = Mutex::new(items.iter_mut().enumerate());
    let work = || {
        let mut made = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((i, item)) = next else { return made };
            made.push((i, each(item)));
        }
    };
    let mut made = thread::scope(|scope| {
        // If a thread cannot be started, the others do its work.
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..n_threads).filter_map(start).collect();
        let mut made = work();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|(i, _)| *i);
    made.into_iter().map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::on_threads;
    use crate::engine::{Sampler, Sampling, Token};

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let logits: Vec<f32> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as f32 / 32.0).collect();
        let sampling =
            |seed| Sampling { seed, frequency_penalty: 0.5, repeat_penalty: 1.2, ..Sampling::model_card_defaults() };
        let drawn = |n_threads| {
            let mut samplers: Vec<Sampler> = (0..40).map(|seed| Sampler::new(&sampling(seed), &[])).collect();
            let step = |_| on_threads(&mut samplers, n_threads, |sampler| sampler.choose(&logits));
            (0..20).flat_map(step).collect::<Vec<Option<Token>>>()
        };
        let alone = drawn(1);
        assert!(alone.iter().all(Option::is_some));
        for n_threads in [0, 2, 7, 100] {
            assert_eq!(drawn(n_threads), alone, "{n_threads}");
        }
    }
}

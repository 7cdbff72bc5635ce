//! The next token of every answer that has new logits, chosen on several threads where that saves time: between two steps
//! all threads of the engine wait for it. What is chosen does not depend on the threads.

use super::job::Job;
use super::logprobs::{TokenLogprob, logprob};
use crate::engine::{Token, Vocab};
use crate::error::Failure;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What a thread that is started should take over at least, in microseconds; starting one costs some 30.
const WORTH_A_THREAD: u32 = 300;
/// What the log probabilities of one token cost, in microseconds: an exponential for each token of the vocabulary.
const LOGPROBS_COST: u32 = 150;

/// A token to choose.
pub(super) struct Choice<'a> {
    pub(super) job: &'a mut Job,
    pub(super) logits: &'a [f32],
}

/// A token that was chosen, with its log probabilities where the request asks for them.
pub(super) type Chosen = (Token, Option<TokenLogprob>);

impl Choice<'_> {
    fn make(&mut self, vocab: &Vocab<'_>) -> Option<Chosen> {
        let token = self.job.sampler.choose(self.logits)?;
        Some((token, self.job.n_top.map(|n_top| logprob(self.logits, token, usize::from(n_top), vocab))))
    }

    fn cost(&self) -> u32 {
        self.job.sampler.cost() + if self.job.n_top.is_some() { LOGPROBS_COST } else { 0 }
    }
}

/// Makes the `choices` on up to `n_threads` threads; the answer has their order.
pub(super) fn choose(choices: &mut [Choice<'_>], vocab: &Vocab<'_>, n_threads: usize) -> Result<Vec<Chosen>, Failure> {
    let cost: u32 = choices.iter().map(Choice::cost).sum();
    let n_threads = n_threads.min((cost / WORTH_A_THREAD) as usize);
    let queue = Mutex::new(choices.iter_mut().enumerate());
    let work = || {
        let mut made = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((i, choice)) = next else { return made };
            made.push((i, choice.make(vocab)));
        }
    };
    let mut made = thread::scope(|scope| {
        // A thread that cannot be started is not missed: this one does what is left.
        let start = |_| thread::Builder::new().spawn_scoped(scope, &work).ok();
        let others: Vec<_> = (1..n_threads).filter_map(start).collect();
        let mut made = work();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|(i, _)| *i);
    made.into_iter().map(|(_, chosen)| chosen).collect::<Option<Vec<_>>>().ok_or_else(|| {
        Failure::engine("NAN", "the model computes numbers that are not numbers", "verify the model file")
    })
}

//! Measures a model like llama-bench, so that the numbers can be compared: random tokens, a warm-up run, and an empty
//! KV cache before each run. The time does not include tokenizing and sampling.

use crate::decode::DraftCounts;
use crate::engine::{Context, Token};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use std::time::{Duration, Instant};

/// A test; one of `n_prompt` and `n_gen` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// Prompt tokens, computed in batches (pp).
    pub(crate) n_prompt: u32,
    /// Tokens that each sequence generates one by one (tg).
    pub(crate) n_gen: u32,
    /// Sequences that generate at the same time; 1 for prompts.
    pub(crate) n_parallel: u32,
}

impl Test {
    /// Tokens that a run computes, of all sequences together; also the cells that it needs.
    pub(crate) fn n_tokens(self) -> u64 {
        (u64::from(self.n_prompt) + u64::from(self.n_gen)) * u64::from(self.n_parallel)
    }
}

/// The answer to a prompt, generated with the decoder.
#[derive(Clone, Debug)]
pub(crate) struct AnswerTest {
    /// Text for the table: where the prompt or the drafts come from.
    pub(crate) label: String,
    /// Passes and drafts of the last run.
    pub(crate) drafts: DraftCounts,
}

/// The result of a test.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// The test.
    pub(crate) test: Test,
    /// The answer of which a test measures the generation.
    pub(crate) answer: Option<AnswerTest>,
    /// Start time, in seconds since 1970.
    pub(crate) began: u64,
    /// Duration of each run.
    pub(crate) samples: Vec<Duration>,
}

impl Measured {
    /// Tokens per second of each run, of all sequences together.
    pub(crate) fn speeds(&self) -> Vec<f64> {
        // The first token of an answer comes from the pass that reads the prompt.
        let first = u64::from(self.answer.is_some());
        let tokens = (self.test.n_tokens() - first) as f64;
        self.samples.iter().map(|time| tokens / time.as_secs_f64().max(1e-9)).collect()
    }
}

/// Returns the mean and the sample standard deviation; the latter is 0 for a single value.
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// Runs `test` `repetitions` times after a warm-up, and reports the number of runs done to `progress`. Returns `None`
/// if it was interrupted.
pub(crate) fn measure(
    context: &mut Context<'_>,
    bos: Token,
    test: Test,
    repetitions: u32,
    progress: impl Fn(u32),
    interrupt: &Interrupt,
) -> Result<Option<Measured>, Failure> {
    let mut tokens = Tokens::new(bos, context.n_vocab());
    let began = now();
    let warm_up = Test { n_gen: test.n_gen.min(1), ..test };
    let mut samples = Vec::new();
    for run in 0..=repetitions {
        for seq in 0..context.n_slots() {
            context.truncate(seq, 0)?;
        }
        let start = Instant::now();
        if !once(context, &mut tokens, if run == 0 { warm_up } else { test }, interrupt)? {
            return Ok(None);
        }
        if run > 0 {
            samples.push(start.elapsed());
        }
        progress(run + 1);
    }
    Ok(Some(Measured { test, answer: None, began, samples }))
}

/// Returns the seconds since 1970.
pub(super) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// One run. Returns false if it was interrupted.
fn once(context: &mut Context<'_>, tokens: &mut Tokens, test: Test, interrupt: &Interrupt) -> Result<bool, Failure> {
    let (n_prompt, n_gen, n_parallel) = (test.n_prompt as usize, test.n_gen as usize, test.n_parallel as usize);
    let mut pos = 0;
    while pos < n_prompt + n_gen {
        if interrupt.asked().is_some() {
            return Ok(false);
        }
        let n = if pos < n_prompt { (n_prompt - pos).min(context.n_batch()) } else { 1 };
        context.clear_batch();
        for i in 0..n {
            for seq in 0..n_parallel {
                context.push(tokens.next(pos + i), pos + i, seq, i + 1 == n)?;
            }
        }
        if !context.decode()? {
            return Ok(false);
        }
        pos += n;
    }
    Ok(true)
}

/// BOS, then pseudo-random tokens; the same in every run of the program.
pub(super) struct Tokens {
    bos: Token,
    n_vocab: i32,
    state: u32,
}

impl Tokens {
    pub(super) fn new(bos: Token, n_vocab: i32) -> Self {
        Self { bos, n_vocab, state: 0x2545_f491 }
    }

    pub(super) fn next(&mut self, pos: usize) -> Token {
        if pos == 0 {
            return self.bos;
        }
        // xorshift32
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        let id = i64::from(self.state) % i64::from(self.n_vocab.max(1));
        Token::new(i32::try_from(id).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::mean_and_deviation;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
        let (mean, deviation) = mean_and_deviation(&[1.0, 2.0, 3.0, 4.0]);
        assert!((mean - 2.5).abs() < 1e-12 && (deviation - 1.290_994_448_735_805_6).abs() < 1e-12);
    }
}

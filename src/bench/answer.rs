//! Measures the generation of answers with the decoder, and so with drafts: to a prompt from a file, or with drafts that
//! are right with a given probability.

use super::measure::{AnswerTest, Measured, Test, Tokens, now};
use crate::decode::{Decoder, DraftSource, Drafts, Event, Forced, Mode, Request};
use crate::engine::{Model, Token};
use crate::error::Failure;
use crate::interrupt::Interrupt;

/// An answer to measure.
#[derive(Debug)]
pub(crate) struct AnswerPlan<'m> {
    /// The prompt.
    pub(crate) prompt: Vec<Token>,
    /// Maximum tokens of the answer.
    pub(crate) n_gen: u32,
    /// Where guesses come from.
    pub(crate) drafts: Drafts<'m>,
    /// Text for the table.
    pub(crate) label: String,
}

/// Returns drafts that are right with the probability `rate`, for an answer of `n_gen` tokens. The tokens of this answer
/// are pseudo-random, and replace those that the model chooses.
pub(crate) fn forced(model: &Model, rate: f64, n_gen: u32) -> Drafts<'static> {
    Drafts { source: DraftSource::Forced(Forced { answer: random_tokens(model, n_gen), rate }), n_tokens: None }
}

/// Returns a prompt of `n` pseudo-random tokens.
pub(crate) fn random_tokens(model: &Model, n: u32) -> Vec<Token> {
    let mut tokens = Tokens::new(model.vocab().bos().unwrap_or(Token::new(0)), model.vocab().len());
    // A control token such as EOS would end the answer.
    let vocab = model.vocab();
    let plain = |token: &Token| !vocab.piece(*token).is_empty();
    (1..).map(|i| tokens.next(i)).filter(plain).take(n as usize).collect()
}

/// Generates the answer `repetitions` times, after a warm-up of two runs in which the times of passes are learned. The
/// time is that from the first token to the last. Returns `None` if it was interrupted.
pub(crate) fn measure_answer(
    model: &Model,
    plan: AnswerPlan<'_>,
    repetitions: u32,
    progress: impl Fn(u32),
    interrupt: &Interrupt,
) -> Result<Option<Measured>, Failure> {
    const WARM_UP: u32 = 2;
    let mut decoder = Decoder::new(model, Mode::Interactive, plan.drafts.clone(), interrupt)?;
    let (began, mut samples) = (now(), Vec::new());
    let mut measured = None;
    for run in 0..WARM_UP + repetitions {
        decoder.submit(Request::greedy(plan.prompt.clone(), plan.n_gen))?;
        let answer = loop {
            if interrupt.asked().is_some() {
                return Ok(None);
            }
            let finished = decoder.step()?.into_iter().find_map(|(_, event)| match event {
                Event::Finished(answer) => Some(answer),
                _ => None,
            });
            if let Some(answer) = finished {
                break answer;
            }
        };
        if run >= WARM_UP {
            samples.push(answer.usage.generation);
            measured = Some(answer.usage);
        }
        progress((run + 1).saturating_sub(WARM_UP - 1));
    }
    let Some(usage) = measured else { return Ok(None) };
    let n_gen = u32::try_from(usage.completion_tokens).unwrap_or(plan.n_gen);
    let answer = Some(AnswerTest { label: plan.label, drafts: usage.drafts });
    Ok(Some(Measured { test: Test { n_prompt: 0, n_gen, n_parallel: 1 }, answer, began, samples }))
}

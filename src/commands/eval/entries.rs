//! Makes the entries of the report, and measures speeds.

use super::candidates::Candidate;
use super::compute::load;
use super::setup::Setup;
use crate::bench::{self, Test};
use crate::engine::{Model, N_CTX_MIN, Token};
use crate::error::Failure;
use crate::eval::{Divergence, Entry, GroupEntry, Journal, Perplexity, Speed};
use crate::interrupt::Interrupt;
use crate::model;

/// Tokens of the speed tests.
const SPEED_TESTS: [Test; 2] =
    [Test { n_prompt: 256, n_gen: 0, n_parallel: 1 }, Test { n_prompt: 0, n_gen: 32, n_parallel: 1 }];
const _: () = assert!(SPEED_TESTS[0].n_prompt <= N_CTX_MIN);

/// Makes the entries, without speeds.
pub(super) fn entries(setup: &Setup<'_>, journal: &Journal) -> Vec<Entry> {
    let base = setup.base().map(|index| journal.scores(index));
    let entry = |(index, one): (usize, &Candidate)| {
        let scores = journal.scores(index);
        Entry {
            path: one.path.clone(),
            is_temporary: one.is_temporary,
            ftype: one.ftype,
            variant: one.variant.clone(),
            bytes: one.bytes,
            bits_per_weight: one.tensor_bytes as f64 * 8.0 / one.n_params.max(1) as f64,
            memory: one.dims.memory_needed(&one.settings, one.dims.n_ctx_train),
            perplexity: Perplexity::of(&scores),
            divergence: base.as_ref().filter(|_| !one.is_base).map(|base| Divergence::of(&scores, base)),
            speed: None,
            is_base: one.is_base,
        }
    };
    setup.candidates.iter().enumerate().filter(|(_, one)| one.swap.is_none()).map(entry).collect()
}

/// Makes the entries of groups of tensors.
pub(super) fn group_entries(setup: &Setup<'_>, journal: &Journal) -> Vec<GroupEntry> {
    let Some(base) = setup.base().map(|index| journal.scores(index)) else { return Vec::new() };
    let entry = |(index, one): (usize, &Candidate)| {
        let swap = one.swap.as_ref()?;
        let file = setup.candidates.iter().position(|other| other.path == swap.from && !other.is_base);
        let group = swap.group.clone();
        Some(GroupEntry { file, group, divergence: Divergence::of(&journal.scores(index), &base) })
    };
    setup.candidates.iter().enumerate().filter_map(entry).collect()
}

/// Measures the speeds of all models; `models` are those that are loaded. Speeds come last, because contexts for them use
/// kernels of this program, and the scores are to be llama.cpp's.
pub(super) fn measure(entries: &mut [Entry], setup: &Setup<'_>, models: &[Model]) -> Result<(), Failure> {
    let files = setup.candidates.iter().filter(|one| one.swap.is_none());
    for (index, (entry, one)) in entries.iter_mut().zip(files).enumerate() {
        entry.speed = match models.get(index) {
            Some(model) => speed(model, setup.interrupt)?,
            None => speed(&load(one, setup)?, setup.interrupt)?,
        };
    }
    Ok(())
}

/// Measures the speed of a model once. `None` when it was interrupted.
fn speed(model: &Model, interrupt: &Interrupt) -> Result<Option<Speed>, Failure> {
    let mut context = model.context(interrupt)?;
    let bos = model.vocab().bos().unwrap_or(Token::new(0));
    let mut means = Vec::new();
    for test in SPEED_TESTS {
        let Some(measured) = bench::measure(&mut context, bos, test, 1, |_| (), interrupt)? else {
            return interrupt.asked().map_or(Ok(None), |exit| Err(model::stopped(exit)));
        };
        means.extend(measured.speeds());
    }
    Ok(match means[..] {
        [prompt, generation] => Some(Speed { prompt, generation }),
        _ => None,
    })
}

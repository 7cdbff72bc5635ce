//! Sums the squared activations that enter each matrix, while the model computes chunks of a text. The sums are made as
//! llama-imatrix makes them: in f32, token after token, so that they are the same numbers.

use super::unfinished::Unfinished;
use crate::corpus::Chunk;
use crate::engine::{Model, Sequence, scored_together};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model::stopped;
use crate::progress::Bar;
use llama_ext::observe::{Node, Observer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tulu_quantize::{ImatrixSums, Sums};

/// Fewest tokens of a batch that counts; llama-imatrix ignores smaller ones.
const ROWS_MIN: usize = 16;

/// What is collected.
pub(crate) struct Collection<'a> {
    /// The text.
    pub(crate) chunks: &'a [Chunk],
    /// Tokens of a chunk.
    pub(crate) n_ctx: usize,
    /// Whether `output.weight` gets an entry.
    pub(crate) process_output: bool,
    /// The request to stop.
    pub(crate) interrupt: &'a Interrupt,
}

/// The sums so far, and the first tensor whose activations are not finite.
#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Sums>,
    scratch: Vec<f32>,
    not_finite: Option<String>,
    /// A product whose activations cannot be read.
    unreadable: Option<String>,
}

/// Observes the matrix products of one context. llama.cpp never frees it, so the sums are not in it.
struct Collector {
    state: Weak<Mutex<State>>,
    process_output: bool,
}

impl Observer for Collector {
    fn wants(&self, node: &Node<'_>) -> bool {
        let (Some(weights), Some(input)) = (node.weights(), node.input()) else { return false };
        let counts = weights.starts_with("blk.") || self.process_output && weights == "output.weight";
        counts && input.is_f32() && input.rows() >= ROWS_MIN
    }

    fn sees(&self, node: &Node<'_>) {
        let (Some(weights), Some(input), Some(state)) = (node.weights(), node.input(), self.state.upgrade()) else {
            return;
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { entries, scratch, not_finite, unreadable } = &mut *state;
        let (columns, matrices) = (input.row_len(), input.n_matrices().max(1));
        let sums = entries.entry(weights.to_owned()).or_default();
        if sums.values.is_empty() {
            *sums = Sums { values: vec![0.0; columns * matrices], counts: vec![0] };
        }
        let values = &mut sums.values;
        let read = input.each_row(scratch, |matrix, row| {
            for (sum, x) in values[matrix * columns..].iter_mut().zip(row) {
                *sum += x * x;
            }
        });
        if !read {
            unreadable.get_or_insert_with(|| weights.to_owned());
        }
        if !sums.values.iter().all(|sum| sum.is_finite()) {
            not_finite.get_or_insert_with(|| weights.to_owned());
        }
        sums.counts[0] += (input.all_rows() / matrices) as u64;
    }
}

/// Computes the chunks with `model`, from those on that `unfinished` has, and returns the sums.
///
/// # Errors
/// `INTERRUPTED`; `unfinished` then keeps what was computed. `NAN` when activations are not finite.
pub(crate) fn collect(
    model: &Model,
    collection: &Collection<'_>,
    unfinished: &mut Unfinished,
) -> Result<ImatrixSums, Failure> {
    let Collection { chunks, n_ctx, process_output, interrupt } = *collection;
    let (done, entries) = unfinished.begin();
    let state = Arc::new(Mutex::new(State { entries, ..State::default() }));
    let collector = Collector { state: Arc::downgrade(&state), process_output };
    let mut context = model.scoring_context(n_ctx, Some(Box::new(collector)), interrupt)?;
    let bar = Bar::items("computing", "chunks", chunks.len() as u64);
    bar.begin_at(done as u64);
    let together = scored_together(n_ctx);
    for (group, part) in chunks.chunks(together).enumerate().skip(done.div_ceil(together)) {
        // All logits, although none is read: without them llama.cpp does not compute all of the last layer.
        let all: Vec<Vec<bool>> = part.iter().map(|chunk| vec![true; chunk.tokens.len()]).collect();
        let sequences = part.iter().zip(&all).map(|(chunk, logits)| Sequence { tokens: &chunk.tokens, logits });
        let whole = context.compute(&sequences.collect::<Vec<_>>()).map_err(|failure| failure.at(model.path()))?;
        if let (false, exit) | (true, exit @ Some(_)) = (whole, interrupt.asked()) {
            unfinished.save()?;
            return Err(exit.map_or_else(Failure::interrupted, stopped));
        }
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = &state.not_finite {
            let what =
                format!("the activations of {tensor} are NaN or infinite in chunks {} and on", group * together + 1);
            let fix = "`tulu-quant verify` finds the tensor; convert the file again";
            return Err(Failure::input(Code::Nan, what, fix).at(model.path()));
        }
        if let Some(tensor) = &state.unreadable {
            let what = format!("the activations of {tensor} have an unknown layout");
            return Err(Failure::engine(Code::Defect, what, "report this: it is a defect of tulu-quant"));
        }
        unfinished.computed(group * together + part.len(), &state.entries)?;
        bar.set((group * together + part.len()) as u64);
    }
    drop(context);
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = std::mem::take(&mut state.entries);
    let chunk_size = u32::try_from(n_ctx).unwrap_or(u32::MAX);
    Ok(ImatrixSums { datasets: Vec::new(), chunk_size, entries })
}

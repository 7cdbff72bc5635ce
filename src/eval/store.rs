//! Computes the base and writes its distributions to a file, chunk by chunk. Hidden states are the values of llama.cpp's node
//! `result_norm`, from which it computes the logits.

use super::base_file::{BaseFile, Encoding, OutputMatrix, encode};
use crate::corpus::Chunk;
use crate::engine::{Model, Sequence};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model::stopped;
use crate::progress::Bar;
use llama_ext::observe::{Node, Observer};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// llama.cpp's name of the values that are multiplied with the output matrix.
const NODE: &str = "result_norm";

/// Copies the rows of one node. llama.cpp never frees it, so the rows are not in it.
struct StateReader(Weak<Mutex<Vec<f32>>>);

impl Observer for StateReader {
    fn wants(&self, node: &Node<'_>) -> bool {
        node.name() == NODE
    }

    fn sees(&self, node: &Node<'_>) {
        let Some(rows) = self.0.upgrade() else { return };
        let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = Vec::new();
        node.output().each_row(&mut scratch, |_, row| rows.extend_from_slice(row));
    }
}

/// What is stored, and how.
pub(crate) struct Store<'a> {
    /// The text.
    pub(crate) chunks: &'a [Chunk],
    /// Tokens of the longest chunk.
    pub(crate) n_ctx: usize,
    /// How distributions are stored.
    pub(crate) encoding: Encoding,
    /// Threads that encode.
    pub(crate) n_threads: usize,
    /// The request to stop.
    pub(crate) interrupt: &'a Interrupt,
}

/// Computes the chunks that `file` lacks with `model`, and adds them.
///
/// # Errors
/// `INTERRUPTED`; the file keeps finished chunks. `NAN` when the model computes NaN.
pub(crate) fn store(
    store: &Store<'_>,
    model: &Model,
    matrix: &OutputMatrix,
    file: &mut BaseFile,
) -> Result<(), Failure> {
    let hidden = Arc::new(Mutex::new(Vec::new()));
    let reader = StateReader(Arc::downgrade(&hidden));
    let mut context = model.scoring_context(store.n_ctx, Some(Box::new(reader)), store.interrupt)?;
    let bar = Bar::items("computing the base", "chunks", store.chunks.len() as u64);
    bar.begin_at(file.chunks() as u64);
    for (index, chunk) in store.chunks.iter().enumerate().skip(file.chunks()) {
        hidden.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let needed = chunk.needed_logits();
        // One chunk at a time: with several, llama.cpp mixes their rows.
        let whole = context.compute(&[Sequence { tokens: &chunk.tokens, logits: &needed }]);
        if let (false, exit) | (true, exit @ Some(_)) =
            (whole.map_err(|failure| failure.at(model.path()))?, store.interrupt.asked())
        {
            return Err(exit.map_or_else(Failure::interrupted, stopped));
        }
        let logits = chunk.scored.iter().map(|at| context.logits(0, at - 1)).collect::<Result<Vec<_>, _>>()?;
        let states = hidden.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() != logits.len() * matrix.n_embd() {
            let what = format!("{} hidden states of {NODE} for {} logits", states.len(), logits.len());
            return Err(Failure::engine(Code::Defect, what, "report this: it is a defect of tulu-quant"));
        }
        let tokens: Vec<usize> =
            chunk.scored.iter().map(|at| usize::try_from(chunk.tokens[*at].0).unwrap_or(usize::MAX)).collect();
        let block = encode(&logits, &states, &tokens, matrix, store.encoding, store.n_threads).ok_or_else(|| {
            let what = format!("the model computes NaN or infinity in chunk {}", index + 1);
            let fix = "`tulu-quant verify` finds the tensor; convert the file again";
            Failure::input(Code::Nan, what, fix).at(model.path())
        })?;
        file.add(&block)?;
        bar.set(index as u64 + 1);
    }
    Ok(())
}

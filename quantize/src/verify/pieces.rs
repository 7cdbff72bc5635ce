//! A file cut into pieces in its own order, and its hash fed in that order from what several threads read: so a file is
//! read once, and the last tensor does not run alone.

use crate::gguf::Gguf;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Weights in one piece: 2 MiB of f32.
const CHUNK: u64 = 1 << 19;
/// Bytes in a piece that no tensor's are.
const GAP: u64 = 1 << 20;
/// Pieces that may wait for an earlier one.
const WAITING: usize = 32;

/// Some weights of a tensor: `first` is counted from the tensor's first weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) tensor: usize,
    pub(super) first: u64,
    pub(super) count: u64,
}

/// Some bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// The weights that they are, if they are any.
    pub(super) part: Option<Part>,
}

/// All of a file: header, padding and what follows the last tensor included. Of a tensor whose rows are not longer than a
/// piece, a piece has whole rows, in multiples of `unit(tensor)`.
pub(super) fn cut(file: &Gguf, unit: impl Fn(usize) -> u64) -> Vec<Piece> {
    let (mut all, mut at) = (Vec::new(), 0);
    for (tensor, t) in file.tensors.iter().enumerate() {
        gap(&mut all, at, t.offset);
        at = t.offset;
        let (block, block_bytes) = (wide(t.kind.block_size()).max(1), wide(t.kind.block_bytes()));
        let unit = unit(tensor).max(1);
        let columns = t.n_per_row().max(1);
        let rows = CHUNK.checked_div(columns.saturating_mul(unit)).unwrap_or(0).max(1).saturating_mul(unit);
        let whole_rows = columns <= CHUNK || unit > 1;
        let step = if whole_rows { rows.saturating_mul(columns) } else { CHUNK };
        let mut first = 0;
        while first < t.n_weights() {
            let count = step.min(t.n_weights().saturating_sub(first));
            let len = count.checked_div(block).unwrap_or(0).saturating_mul(block_bytes);
            all.push(Piece { offset: at, len, part: Some(Part { tensor, first, count }) });
            at = at.saturating_add(len);
            first = first.saturating_add(count);
        }
    }
    gap(&mut all, at, file.len);
    all
}

/// Pieces of the bytes from `at` to `end`.
fn gap(all: &mut Vec<Piece>, mut at: u64, end: u64) {
    while at < end {
        let len = GAP.min(end.saturating_sub(at));
        all.push(Piece { offset: at, len, part: None });
        at = at.saturating_add(len);
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The sha256 of pieces that come in any order.
pub(super) struct InOrder {
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    next: usize,
    /// Taken out by the thread that is hashing.
    hash: Option<Sha256>,
    waiting: BTreeMap<usize, Vec<u8>>,
    stopped: bool,
}

impl InOrder {
    pub(super) fn new() -> Self {
        let state = State { next: 0, hash: Some(Sha256::new()), waiting: BTreeMap::new(), stopped: false };
        Self { state: Mutex::new(state), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Piece `number` is `bytes`. Waits while too many pieces wait for an earlier one; the earliest never waits.
    pub(super) fn give(&self, number: usize, bytes: Vec<u8>) {
        let mut state = self.lock();
        while !state.stopped && number > state.next.saturating_add(WAITING) {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.insert(number, bytes);
        // one thread hashes, and goes on with what the others bring meanwhile
        let Some(mut hash) = state.hash.take() else { return };
        loop {
            let next = state.next;
            let Some(bytes) = state.waiting.remove(&next) else { break };
            drop(state);
            hash.update(&bytes);
            state = self.lock();
            state.next = next.saturating_add(1);
            self.moved.notify_all();
        }
        state.hash = Some(hash);
    }

    /// No more pieces will come: nobody waits any longer.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.moved.notify_all();
    }

    /// The hash in hexadecimal, once all pieces were given.
    pub(super) fn finish(self) -> String {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let hash = state.hash.unwrap_or_default().finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Stops the others when a thread leaves its work for an error or a panic.
pub(super) struct Alarm<'a> {
    pub(super) order: &'a InOrder,
    pub(super) well: bool,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if !self.well {
            self.order.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::InOrder;
    use sha2::{Digest as _, Sha256};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn pieces_of_any_order_hash_as_the_whole() {
        let parts: Vec<Vec<u8>> = (0..200_u32).map(|i| vec![i as u8; (i * 7 % 40) as usize]).collect();
        let expected = Sha256::digest(parts.concat()).iter().map(|b| format!("{b:02x}")).collect::<String>();
        for threads in [1, 2, 8] {
            let (order, next) = (InOrder::new(), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        loop {
                            let i = next.fetch_add(1, Ordering::Relaxed);
                            let Some(part) = parts.get(i) else { break };
                            order.give(i, part.clone());
                        }
                    });
                }
            });
            assert_eq!(order.finish(), expected);
        }
    }
}

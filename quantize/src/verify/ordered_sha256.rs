//! The SHA-256 of a file whose parts arrive from several threads in any order: each part is hashed when its turn comes.

use crate::hex::hex;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Pieces that may wait for an earlier one.
const WAITING: usize = 32;

/// The sha256 of pieces that come in any order.
pub(super) struct OrderedSha256 {
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

impl OrderedSha256 {
    pub(super) fn new() -> Self {
        let state = State { next: 0, hash: Some(Sha256::new()), waiting: BTreeMap::new(), stopped: false };
        Self { state: Mutex::new(state), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// FileSpan `number` is `bytes`. Waits while too many pieces wait for an earlier one; the earliest never waits.
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
        hex(&state.hash.unwrap_or_default().finalize())
    }
}

/// Stops the others when a thread leaves its work for an error or a panic.
pub(super) struct StopOnFailure<'a> {
    pub(super) order: &'a OrderedSha256,
    pub(super) well: bool,
}

impl Drop for StopOnFailure<'_> {
    fn drop(&mut self) {
        if !self.well {
            self.order.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OrderedSha256;
    use sha2::{Digest as _, Sha256};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn pieces_of_any_order_hash_as_the_whole() {
        let parts: Vec<Vec<u8>> = (0..200_u32).map(|i| vec![i as u8; (i * 7 % 40) as usize]).collect();
        let expected = Sha256::digest(parts.concat()).iter().map(|b| format!("{b:02x}")).collect::<String>();
        for threads in [1, 2, 8] {
            let (order, next) = (OrderedSha256::new(), AtomicUsize::new(0));
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

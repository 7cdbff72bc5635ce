//! The SHA-256 of a file whose spans come from several threads in any order.

use crate::hex::hex;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Maximum number of spans that wait for an earlier one.
const MAX_WAITING: usize = 32;

/// Hashes spans in the order of their numbers; they can be added in any order.
pub(super) struct OrderedSha256 {
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    next: usize,
    /// `None` while a thread is hashing.
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

    /// Adds span number `number`. Blocks while too many spans wait for an earlier one; adding the earliest never
    /// blocks.
    pub(super) fn add(&self, number: usize, bytes: Vec<u8>) {
        let mut state = self.lock();
        while !state.stopped && number > state.next.saturating_add(MAX_WAITING) {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.insert(number, bytes);
        // if another thread is hashing, it also hashes this span
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

    /// Wakes all waiting threads; no more spans will be added.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.moved.notify_all();
    }

    /// Returns the hash in hexadecimal, after all spans were added.
    pub(super) fn finish(self) -> String {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        hex(&state.hash.unwrap_or_default().finalize())
    }
}

/// A guard that calls [`OrderedSha256::stop`] when a thread ends with an error or a panic.
pub(super) struct StopOnFailure<'a> {
    pub(super) order: &'a OrderedSha256,
    pub(super) succeeded: bool,
}

impl Drop for StopOnFailure<'_> {
    fn drop(&mut self) {
        if !self.succeeded {
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
    fn spans_in_any_order_hash_like_the_whole() {
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
                            order.add(i, part.clone());
                        }
                    });
                }
            });
            assert_eq!(order.finish(), expected);
        }
    }
}

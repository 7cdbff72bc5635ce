//! Runs numbered work items on several threads. The first error stops all threads and is returned.

use crate::error::{Code, Error, Result};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maximum number of threads; more would only need memory.
pub(crate) const MAX_THREADS: usize = 1024;

/// Calls `work(i, buffer)` for each `i` in `0..count` on `threads` threads, including the caller's. The threads take
/// the indices in order. Every thread has its own buffer. If the system limits the number of threads, fewer are used.
///
/// # Errors
/// The first error of `work`; [`Code::Engine`] naming `file` when it panics.
pub(crate) fn run<B: Default>(
    threads: NonZeroUsize,
    count: usize,
    file: &Path,
    work: impl Fn(usize, &mut B) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let worker = || {
        let mut buffer = B::default();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(|| work(number, &mut buffer)));
            let died = |_| Err(Error::new(Code::Engine, file, "a worker thread panicked", "report this"));
            if let Err(err) = done.unwrap_or_else(died) {
                stop.store(true, Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(err);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(count).min(MAX_THREADS) {
            if std::thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
        worker();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(err) => Err(err),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::error::Code;
    use std::num::NonZeroUsize;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn calls_work_once_per_index() {
        for threads in [1, 2, 7, usize::MAX] {
            let sum = AtomicUsize::new(0);
            let done = run(NonZeroUsize::new(threads).unwrap(), 100, Path::new("x"), |n, _: &mut ()| {
                sum.fetch_add(n + 1, Ordering::Relaxed);
                Ok(())
            });
            assert_eq!((done, sum.into_inner()), (Ok(()), 5050), "{threads}");
        }
    }

    #[test]
    fn a_panic_is_an_error_and_stops_the_others() {
        for threads in [1, 4] {
            let done = run(NonZeroUsize::new(threads).unwrap(), 1000, Path::new("x"), |n, _: &mut ()| {
                assert!(n != 3, "on purpose");
                Ok(())
            });
            assert_eq!(done.unwrap_err().code, Code::Engine);
        }
    }
}

//! Numbered pieces of work over a pool of threads; the first error stops all of them and is the answer.

use crate::error::{Code, Error, Result};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Calls `work` for 0 to `count`, each number once, in order of start; every thread keeps a buffer of its own. `file` is
/// named when a thread dies, which is a defect.
pub(crate) fn each<B: Default>(
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
            if let Err(err) = work(number, &mut buffer) {
                stop.store(true, Ordering::Relaxed);
                if let Ok(mut first) = failed.lock() {
                    first.get_or_insert(err);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(worker);
        }
        worker();
    });
    match failed.into_inner() {
        Ok(Some(err)) => Err(err),
        Ok(None) => Ok(()),
        Err(_) => Err(Error::new(Code::Engine, file, "a worker thread died", "report this")),
    }
}

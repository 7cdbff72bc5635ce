//! Measures how fast this machine reads memory, with as many threads as the model uses. Generating a token reads every
//! weight once, so the bandwidth limits the tokens per second.

use std::time::Instant;

/// Bytes read in one pass: larger than most CPU caches.
const BYTES: usize = 512 << 20;
/// Number of passes; the result is the fastest. The first pass also maps the pages.
const PASSES: usize = 5;

/// Returns the bytes per second that `n_threads` read together; `None` if the buffer cannot be allocated.
pub(crate) fn read_bandwidth(n_threads: usize) -> Option<f64> {
    let words = BYTES / size_of::<u64>();
    let mut memory: Vec<u64> = Vec::new();
    memory.try_reserve_exact(words).ok()?;
    // Write to the pages first: all pages that were never written map to the same page of zeros.
    memory.extend(0..words as u64);
    let part = words.div_ceil(n_threads.max(1));
    let pass = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for chunk in memory.chunks(part) {
                scope
                    .spawn(move || std::hint::black_box(chunk.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))));
            }
        });
        BYTES as f64 / start.elapsed().as_secs_f64().max(1e-9)
    };
    (0..PASSES).map(|_| pass()).reduce(f64::max)
}

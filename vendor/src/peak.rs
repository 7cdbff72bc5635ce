//! Measures how many multiply-adds per second the CPU can execute (`peak.cpp`), to compare a model's speed with it.

use crate::accel::kernels;
use std::ffi::{CString, c_char};
use std::time::Instant;

unsafe extern "C" {
    fn llama_ext_multiply_adds(name: *const c_char, rounds: i64) -> i64;
}

/// Rounds of one measurement: a few milliseconds.
const ROUNDS: i64 = 1 << 18;
/// Number of measurements; the result is the fastest.
const PASSES: usize = 5;

/// The multiply-adds per second of `n_threads` threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// The instruction set, such as `amx-bf16`: of those that our matrix products use on this CPU, the one with the
    /// highest peak.
    pub instructions: &'static str,
    /// Multiply-adds per second.
    pub per_second: f64,
}

/// Measures the peak of `n_threads` threads. `None` if our matrix products do not run on this CPU.
#[must_use]
pub fn peak(n_threads: usize) -> Option<Peak> {
    let names = kernels().matmul?.split(", ");
    let measured = names.filter_map(|name| Some(Peak { instructions: name, per_second: measure(name, n_threads)? }));
    measured.max_by(|a, b| a.per_second.total_cmp(&b.per_second))
}

fn measure(name: &str, n_threads: usize) -> Option<f64> {
    let name = CString::new(name).ok()?;
    let pass = || {
        let start = Instant::now();
        let done: i64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads.max(1))
                .map(|_| {
                    // SAFETY: the name is NUL-terminated, and is that of a path that runs on this CPU.
                    scope.spawn(|| unsafe { llama_ext_multiply_adds(name.as_ptr(), ROUNDS) })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        });
        done as f64 / start.elapsed().as_secs_f64().max(1e-9)
    };
    (0..PASSES).map(|_| pass()).reduce(f64::max).filter(|speed| *speed > 0.0)
}

//! Runs the attention kernel (`attention.cpp`) and ggml's on given numbers, for tests and benches. A running model uses
//! the kernel through the device ([`crate::accel`]).

use crate::Error;

unsafe extern "C" {
    fn llama_ext_attention(
        ours: i32,
        dim: i64,
        n_tokens: i64,
        n_head: i64,
        n_head_kv: i64,
        n_kv: i64,
        q: *const f32,
        k: *const u16,
        v: *const u16,
        mask: *const u16,
        n_threads: i32,
        runs: i32,
        out: *mut f32,
        seconds: *mut f64,
    ) -> i32;
}

/// Inputs of attention: `q` is heads × tokens × dim in f32; `k` and `v` are key-value heads × cells × dim; `mask` is
/// tokens × cells. `k`, `v` and `mask` are the bits of half floats.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Values in one head.
    pub dim: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key-value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Queries, in f32.
    pub q: Vec<f32>,
    /// Keys, as bits of half floats.
    pub k: Vec<u16>,
    /// Values, as bits of half floats.
    pub v: Vec<u16>,
    /// Attention mask, added to the scores; 0xfc00, minus infinity, hides a cell.
    pub mask: Vec<u16>,
}

impl Attention {
    /// Computes the attention `runs` times, with our kernel if `ours`, else with ggml's. Returns the result (tokens ×
    /// heads × dim) and the seconds of the fastest run; `None` if the kernel does not support these inputs.
    ///
    /// # Errors
    /// [`Error::Native`] when the lengths do not match each other or ggml failed.
    pub fn compute(&self, ours: bool, n_threads: u16, runs: u16) -> Result<Option<(Vec<f32>, f64)>, Error> {
        let mismatch = || Error::Native("the lengths do not match each other".to_owned());
        let Self { dim, n_head, n_head_kv, q, k, v, mask } = self;
        let n_tokens = q.len().checked_div(dim * n_head).ok_or_else(mismatch)?;
        let n_kv = k.len().checked_div(dim * n_head_kv).ok_or_else(mismatch)?;
        let fits = q.len() == dim * n_head * n_tokens
            && k.len() == dim * n_head_kv * n_kv
            && v.len() == k.len()
            && mask.len() == n_tokens * n_kv
            && n_head.is_multiple_of(*n_head_kv)
            && n_threads > 0
            && runs > 0;
        if !fits {
            return Err(mismatch());
        }
        let (mut out, mut seconds) = (vec![0.0; q.len()], 0.0);
        // SAFETY: every pointer is to as many values as the dimensions require, which was checked above. The C++
        // function catches exceptions.
        let status = unsafe {
            llama_ext_attention(
                i32::from(ours),
                *dim as i64,
                n_tokens as i64,
                *n_head as i64,
                *n_head_kv as i64,
                n_kv as i64,
                q.as_ptr(),
                k.as_ptr(),
                v.as_ptr(),
                mask.as_ptr(),
                i32::from(n_threads),
                i32::from(runs),
                out.as_mut_ptr(),
                &raw mut seconds,
            )
        };
        match status {
            0 => Ok(Some((out, seconds))),
            2 => Ok(None),
            _ => Err(Error::Native("the attention failed".to_owned())),
        }
    }
}

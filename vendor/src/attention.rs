//! Runs the attention kernel (`attention/`) and ggml's on given numbers, for tests and benches. A running model uses
//! the kernel through the device ([`crate::accel`]).

use crate::devices::Device;
use crate::{Error, GgmlType};

unsafe extern "C" {
    fn llama_ext_attention(
        place: i32,
        dim: i64,
        n_tokens: i64,
        n_head: i64,
        n_head_kv: i64,
        n_kv: i64,
        k_type: i32,
        v_type: i32,
        q: *const f32,
        k: *const u8,
        v: *const u8,
        mask: *const u16,
        earlier: *const u16,
        n_threads: i32,
        runs: i32,
        out: *mut f32,
        seconds: *mut f64,
    ) -> i32;
}

/// Inputs of attention: `q` is heads × tokens × dim in f32; `k` and `v` are key-value heads × cells × dim, stored as
/// `k_type` and `v_type`; `mask` is tokens × cells, the bits of half floats.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Values in one head.
    pub dim: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key-value heads; divides `n_head`.
    pub n_head_kv: usize,
    /// Type of the keys.
    pub k_type: GgmlType,
    /// Type of the values.
    pub v_type: GgmlType,
    /// Queries, in f32.
    pub q: Vec<f32>,
    /// Bytes of the keys.
    pub k: Vec<u8>,
    /// Bytes of the values.
    pub v: Vec<u8>,
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
        self.compute_after(None, ours, n_threads, runs)
    }

    /// Computes the attention once on a device; `None` if it does not support these inputs.
    ///
    /// # Errors
    /// As [`Self::compute`].
    pub fn compute_on(&self, device: &Device) -> Result<Option<Vec<f32>>, Error> {
        let number = i32::try_from(device.index).unwrap_or(i32::MAX - 2);
        Ok(self.run(None, 2 + number, 1, 1)?.map(|(out, _)| out))
    }

    /// Like [`Self::compute`], as the second layer of a model's second step: a step with the mask `earlier` comes
    /// first, in the same memory. The first layer reads the values as keys and the keys as values.
    ///
    /// # Errors
    /// As [`Self::compute`].
    pub fn compute_after(
        &self,
        earlier: Option<&[u16]>,
        ours: bool,
        n_threads: u16,
        runs: u16,
    ) -> Result<Option<(Vec<f32>, f64)>, Error> {
        self.run(earlier, i32::from(ours), n_threads, runs)
    }

    /// Computes it at a `place` as the C++ function numbers them.
    fn run(
        &self,
        earlier: Option<&[u16]>,
        place: i32,
        n_threads: u16,
        runs: u16,
    ) -> Result<Option<(Vec<f32>, f64)>, Error> {
        let mismatch = || Error::Native("the lengths do not match each other".to_owned());
        let Self { dim, n_head, n_head_kv, k_type, v_type, q, k, v, mask } = self;
        let (k_cell, v_cell) = (k_type.row_bytes(*dim)? * n_head_kv, v_type.row_bytes(*dim)? * n_head_kv);
        let n_tokens = q.len().checked_div(dim * n_head).ok_or_else(mismatch)?;
        let n_kv = k.len().checked_div(k_cell).ok_or_else(mismatch)?;
        let fits = q.len() == dim * n_head * n_tokens
            && k.len() == k_cell * n_kv
            && v.len() == v_cell * n_kv
            && mask.len() == n_tokens * n_kv
            && earlier.is_none_or(|earlier| earlier.len() == mask.len())
            && n_head.is_multiple_of(*n_head_kv)
            && n_threads > 0
            && runs > 0;
        if !fits {
            return Err(mismatch());
        }
        let (mut out, mut seconds) = (vec![0.0; q.len()], 0.0);
        // SAFETY: every pointer is to as many values as the dimensions require, which was checked above; `earlier` may
        // be NULL. The C++
        // function catches exceptions.
        let status = unsafe {
            llama_ext_attention(
                place,
                *dim as i64,
                n_tokens as i64,
                *n_head as i64,
                *n_head_kv as i64,
                n_kv as i64,
                k_type.id() as i32,
                v_type.id() as i32,
                q.as_ptr(),
                k.as_ptr(),
                v.as_ptr(),
                mask.as_ptr(),
                earlier.map_or(std::ptr::null(), <[u16]>::as_ptr),
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

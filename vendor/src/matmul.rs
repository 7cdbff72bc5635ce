//! Products of quantized weights with f32 columns by our own kernels, path by path, for tests and benches. A running model
//! reaches them through the device ([`crate::accel::register`]); `vendor/matmul` says how they work.

use crate::{Error, GgmlType};
use std::ffi::{CStr, c_char, c_void};

unsafe extern "C" {
    fn llama_ext_product(
        number: i32,
        kind: i32,
        weights: *const c_void,
        n_per_row: i64,
        rows: i64,
        columns: *const f32,
        n_cols: i64,
        n_threads: i32,
        runs: i32,
        out: *mut f32,
        seconds: *mut f64,
        name: *mut c_char,
        name_size: usize,
    ) -> i32;
}

/// A product to compute: `weights` is rows × `n_per_row` in blocks of `kind`, `columns` is columns × `n_per_row`.
#[derive(Clone, Debug)]
pub struct Product {
    /// Type of the weights.
    pub kind: GgmlType,
    /// Weights in a row, which is the length of a column.
    pub n_per_row: usize,
    /// Rows one after another.
    pub weights: Vec<u8>,
    /// Columns one after another.
    pub columns: Vec<f32>,
}

/// How one path did.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The result, columns × rows, and the seconds of the fastest run.
    Done(Vec<f32>, f64),
    /// The path has no kernel for this type or depth.
    NotTaken,
    /// This CPU lacks the instructions.
    NotHere,
}

impl Product {
    /// Rows of the weights.
    ///
    /// # Errors
    /// [`Error`] when `n_per_row` is not a multiple of the type's block.
    pub fn rows(&self) -> Result<usize, Error> {
        Ok(self.weights.len() / self.kind.row_bytes(self.n_per_row)?.max(1))
    }

    /// Computes it `runs` times with each path of this build: the path's name and how it did.
    ///
    /// # Errors
    /// [`Error::Native`] when the sizes do not belong together or there is no memory.
    pub fn compute(&self, n_threads: u16, runs: u16) -> Result<Vec<(String, Outcome)>, Error> {
        let wrong = || Error::Native("sizes that do not belong together".to_owned());
        let rows = self.rows()?;
        let n_cols = self.columns.len().checked_div(self.n_per_row).ok_or_else(wrong)?;
        let fits = rows > 0
            && n_cols > 0
            && self.weights.len() == rows * self.kind.row_bytes(self.n_per_row)?
            && self.columns.len() == n_cols * self.n_per_row
            && n_threads > 0
            && runs > 0;
        if !fits {
            return Err(wrong());
        }
        let mut outcomes = Vec::new();
        for number in 0.. {
            let (mut out, mut seconds) = (vec![0.0_f32; rows * n_cols], 0.0);
            let mut name: [c_char; 64] = [0; 64];
            // SAFETY: weights, columns and out have the sizes that the three dimensions give, which was checked above;
            // the name and its size belong together; the shim catches exceptions.
            let status = unsafe {
                llama_ext_product(
                    number,
                    self.kind.id() as i32,
                    self.weights.as_ptr().cast(),
                    self.n_per_row as i64,
                    rows as i64,
                    self.columns.as_ptr(),
                    n_cols as i64,
                    i32::from(n_threads),
                    i32::from(runs),
                    out.as_mut_ptr(),
                    &raw mut seconds,
                    name.as_mut_ptr(),
                    name.len(),
                )
            };
            // SAFETY: the buffer starts as zeros and the shim terminates what it writes.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
            let outcome = match status {
                0 => Outcome::Done(out, seconds),
                2 => Outcome::NotTaken,
                3 => return Ok(outcomes),
                4 => Outcome::NotHere,
                _ => return Err(Error::Native(format!("the product of {name} did not run"))),
            };
            outcomes.push((name, outcome));
        }
        Ok(outcomes)
    }
}

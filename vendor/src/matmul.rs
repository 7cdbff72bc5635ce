//! Runs our matrix products of quantized weights (`matmul/`) on given numbers, one path (instruction set) at a time,
//! for tests and benches. A running model uses them through the device ([`crate::accel`]).

use crate::{Error, GgmlType};
use std::ffi::{CStr, c_char, c_void};

unsafe extern "C" {
    fn llama_ext_path_for(kind: i32, n_per_row: i64, n_cols: i64) -> *const c_char;
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

/// Returns the name of the path that the device uses on this CPU for weights of `kind` in rows of `n_per_row`, with
/// `n_columns` columns. Without a path, ggml computes the product.
#[must_use]
pub fn path_for(kind: GgmlType, n_per_row: usize, n_columns: usize) -> Option<&'static str> {
    // SAFETY: takes numbers only, and returns NULL or a static NUL-terminated string.
    let name = unsafe { llama_ext_path_for(kind.id() as i32, n_per_row as i64, n_columns as i64) };
    // SAFETY: not NULL, so it is such a string.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default())
}

/// Inputs of a matrix product: `weights` is rows × `n_per_row` in blocks of `kind`, `columns` is columns × `n_per_row`.
#[derive(Clone, Debug)]
pub struct Product {
    /// Type of the weights.
    pub kind: GgmlType,
    /// Weights in a row, which is the length of a column.
    pub n_per_row: usize,
    /// Blocks of all rows, row by row.
    pub weights: Vec<u8>,
    /// Values of all columns, column by column.
    pub columns: Vec<f32>,
}

/// Result of one path.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The product (columns × rows) and the seconds of the fastest run.
    Done(Vec<f32>, f64),
    /// The path has no kernel for this type or row length.
    Unsupported,
    /// This CPU lacks the instructions.
    NotOnThisCpu,
}

impl Product {
    /// Returns the number of rows of the weights.
    ///
    /// # Errors
    /// [`Error::Block`] when `n_per_row` is not a multiple of the type's block size.
    pub fn rows(&self) -> Result<usize, Error> {
        Ok(self.weights.len() / self.kind.row_bytes(self.n_per_row)?.max(1))
    }

    /// Computes the product `runs` times with each path of this build. Returns the path's name and its result.
    ///
    /// # Errors
    /// [`Error::Native`] when the lengths do not match each other or memory is exhausted.
    pub fn compute(&self, n_threads: u16, runs: u16) -> Result<Vec<(String, Outcome)>, Error> {
        let mismatch = || Error::Native("the lengths do not match each other".to_owned());
        let rows = self.rows()?;
        let n_cols = self.columns.len().checked_div(self.n_per_row).ok_or_else(mismatch)?;
        let fits = rows > 0
            && n_cols > 0
            && self.weights.len() == rows * self.kind.row_bytes(self.n_per_row)?
            && self.columns.len() == n_cols * self.n_per_row
            && n_threads > 0
            && runs > 0;
        if !fits {
            return Err(mismatch());
        }
        let mut outcomes = Vec::new();
        for number in 0.. {
            let (mut out, mut seconds) = (vec![0.0_f32; rows * n_cols], 0.0);
            let mut name: [c_char; 64] = [0; 64];
            // SAFETY: weights, columns and out have the lengths that the three dimensions give, which was checked
            // above; `name` has the length given. The C++ function catches exceptions.
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
            // SAFETY: the buffer is zeroed, and the C++ function ends what it writes with a NUL.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
            let outcome = match status {
                0 => Outcome::Done(out, seconds),
                2 => Outcome::Unsupported,
                3 => return Ok(outcomes),
                4 => Outcome::NotOnThisCpu,
                _ => return Err(Error::Native(format!("the product of {name} failed"))),
            };
            outcomes.push((name, outcome));
        }
        Ok(outcomes)
    }
}

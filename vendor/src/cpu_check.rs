//! Runs matrix products in every kind of weight buffer of ggml's CPU backend and of our device: the self-test of
//! `doctor`, and the timings for `--repack auto`.

use crate::devices::Device;
use crate::quantize_rows::{quantize_rows, to_f32};
use crate::{Error, GgmlType};
use std::ffi::{CStr, c_char, c_void};

/// Name of our device, which computes with weights in plain memory.
pub const OUR_DEVICE: &str = "TULU";

/// ggml's name of plain memory, where weights keep the format of the file.
pub const PLAIN: &str = "CPU";

/// Result of one kind of weight buffer in [`matmul_test`].
#[derive(Clone, Debug, PartialEq)]
pub struct MatmulResult {
    /// ggml's name of the buffer kind: `CPU`, `CPU_REPACK`, `AMX`; `TULU` for our own device.
    pub buffer: String,
    /// Largest absolute error divided by the root mean square of the exact product. Rounding the activations to 8 bits
    /// alone gives about 0.01.
    pub error: f32,
}

/// Times of one kind of weight buffer in [`matmul_times`].
#[derive(Clone, Debug, PartialEq)]
pub struct MatmulTime {
    /// ggml's name of the buffer kind: `CPU`, `CPU_REPACK`, `AMX`; `TULU` for our own device.
    pub buffer: String,
    /// Seconds of the faster of two products, one value for each round.
    pub seconds: Vec<f64>,
}

/// Multiplies a 512 × 1024 matrix stored as `kind` with 48 columns in every kind of weight buffer, and compares with
/// the product of the dequantized weights in f64. If the build has instructions that this CPU lacks, or the AMX
/// miscompilation, the process dies here with SIGILL. Call it in a child process.
///
/// # Errors
/// [`Error::Native`] when ggml cannot compute the product in plain memory.
pub fn matmul_test(kind: GgmlType, n_threads: u16) -> Result<Vec<MatmulResult>, Error> {
    let numbers = OURS..;
    compare(kind, numbers, n_threads)
}

/// As [`matmul_test`], in the memory of a device. `None` if it does not support the product.
///
/// # Errors
/// [`Error::Native`] when the device cannot compute it.
pub fn matmul_test_on(device: &Device, kind: GgmlType) -> Result<Option<MatmulResult>, Error> {
    let number = OURS - 1 - i32::try_from(device.index).unwrap_or(i32::MAX - 2);
    let results = compare(kind, number..=number, 1)?;
    Ok(results.into_iter().next().map(|result| MatmulResult { buffer: device.name.clone(), ..result }))
}

/// Multiplies in these kinds of buffers, and compares; see [`matmul_test`].
fn compare(kind: GgmlType, numbers: impl IntoIterator<Item = i32>, n_threads: u16) -> Result<Vec<MatmulResult>, Error> {
    const N: usize = 1024;
    const ROWS: usize = 512;
    const COLS: usize = 48;
    let columns = noise(7, N * COLS);
    let mut packed = vec![0; ROWS * kind.row_bytes(N)?];
    quantize_rows(kind, &noise(1, ROWS * N), N, None, &mut packed)?;
    let mut weights = vec![0.0; ROWS * N];
    to_f32(kind, &packed, &mut weights)?;
    let exact: Vec<f64> =
        columns.chunks_exact(N).flat_map(|column| weights.chunks_exact(N).map(move |row| dot(row, column))).collect();
    let scale = (exact.iter().map(|x| x * x).sum::<f64>() / exact.len() as f64).sqrt();
    let error = |product: Product| {
        let worst = product.out.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        let nan = product.out.iter().any(|x| x.is_nan());
        MatmulResult { buffer: product.buffer, error: if nan { f32::NAN } else { (worst / scale) as f32 } }
    };
    Ok(products_in(numbers, kind, &packed, N, &columns, n_threads, 1)?.into_iter().map(error).collect())
}

/// Measures the product of a 2048 × 4096 matrix stored as `kind` with `n_cols` columns: with our device
/// ([`OUR_DEVICE`]) if it supports the product, in plain memory ([`PLAIN`]), then in the other kinds of weight buffers
/// that support it, in llama.cpp's order of preference. Takes about 0.2 s. Compare times of the same round, because
/// other load on the machine changes from round to round.
///
/// # Errors
/// [`Error::Native`] when ggml cannot compute the product in plain memory, [`Error::Type`] for a type that needs an
/// importance matrix.
pub fn matmul_times(kind: GgmlType, n_cols: usize, n_threads: u16) -> Result<Vec<MatmulTime>, Error> {
    const N: usize = 4096;
    const ROWS: usize = 2048;
    const ROUNDS: usize = 9;
    const RUNS: i32 = 2;
    let mut row = vec![0; kind.row_bytes(N)?];
    quantize_rows(kind, &noise(1, N), N, None, &mut row)?;
    let (packed, columns) = (row.repeat(ROWS), noise(7, N * n_cols));
    let mut times: Vec<MatmulTime> = Vec::new();
    for _ in 0..ROUNDS {
        for Product { buffer, seconds, .. } in products(kind, &packed, N, &columns, n_threads, RUNS)? {
            match times.iter_mut().find(|time| time.buffer == buffer) {
                Some(time) => time.seconds.push(seconds),
                None => times.push(MatmulTime { buffer, seconds: vec![seconds] }),
            }
        }
    }
    Ok(times)
}

/// Returns the product (columns × rows) of `packed` weights of `kind`, in rows of `n_per_row`, with f32 `columns`, as
/// ggml's CPU backend computes it in plain memory.
///
/// # Errors
/// [`Error::Native`] when ggml cannot compute the product.
pub fn ggml_product(
    kind: GgmlType,
    packed: &[u8],
    n_per_row: usize,
    columns: &[f32],
    n_threads: u16,
) -> Result<Vec<f32>, Error> {
    let plain = products(kind, packed, n_per_row, columns, n_threads, 1)?.into_iter().find(|one| one.buffer == PLAIN);
    plain.map(|one| one.out).ok_or_else(|| Error::Native(format!("ggml cannot multiply {kind}")))
}

/// Returns pseudorandom numbers from -1 to 1.
pub(crate) fn noise(seed: u32, n: usize) -> Vec<f32> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(step).collect()
}

/// The number of our device among the kinds of buffers; plain memory is 0.
const OURS: i32 = -1;

/// A product computed in one kind of buffer.
struct Product {
    buffer: String,
    out: Vec<f32>,
    seconds: f64,
}

unsafe extern "C" {
    fn llama_ext_matmul(
        kind: i32,
        kind_of_weights: i32,
        weights: *const c_void,
        n_per_row: i64,
        rows: i64,
        columns: *const f32,
        n_cols: i64,
        n_threads: i32,
        runs: i32,
        out: *mut f32,
        seconds: *mut f64,
        kind_name: *mut c_char,
        kind_name_size: usize,
    ) -> i32;
}

/// Computes `packed` × `columns` in every kind of buffer that supports it, `runs` times each.
fn products(
    kind: GgmlType,
    packed: &[u8],
    n_per_row: usize,
    columns: &[f32],
    n_threads: u16,
    runs: i32,
) -> Result<Vec<Product>, Error> {
    products_in(OURS.., kind, packed, n_per_row, columns, n_threads, runs)
}

/// As [`products`], in the kinds of buffers with these numbers.
fn products_in(
    numbers: impl IntoIterator<Item = i32>,
    kind: GgmlType,
    packed: &[u8],
    n_per_row: usize,
    columns: &[f32],
    n_threads: u16,
    runs: i32,
) -> Result<Vec<Product>, Error> {
    let (rows, n_cols) = (packed.len() / kind.row_bytes(n_per_row)?, columns.len() / n_per_row);
    let mut products = Vec::new();
    for number in numbers {
        let (mut out, mut seconds) = (vec![0.0_f32; rows * n_cols], 0.0);
        let mut name: [c_char; 64] = [0; 64];
        // SAFETY: weights, columns and out have the lengths that the three dimensions give, and the name buffer has the
        // length given. The C++ function catches exceptions.
        let status = unsafe {
            llama_ext_matmul(
                number,
                kind.id() as i32,
                packed.as_ptr().cast(),
                n_per_row as i64,
                rows as i64,
                columns.as_ptr(),
                n_cols as i64,
                i32::from(n_threads),
                runs,
                out.as_mut_ptr(),
                &raw mut seconds,
                name.as_mut_ptr(),
                name.len(),
            )
        };
        // SAFETY: the buffer is zeroed, and the C++ function ends what it writes with a NUL.
        let buffer = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        match status {
            0 => products.push(Product { buffer, out, seconds }),
            2 => {}
            3 => break,
            _ => return Err(Error::Native(format!("the matrix product in {buffer} failed"))),
        }
    }
    Ok(products)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

#[cfg(test)]
mod tests {
    use super::{matmul_test, matmul_times};
    use crate::{Error, GgmlType};

    #[test]
    fn product_is_correct_in_every_kind_of_buffer() -> Result<(), Error> {
        for kind in [GgmlType::Q4_K, GgmlType::Q8_0, GgmlType::F16] {
            let results = matmul_test(kind, 2)?;
            assert!(results.iter().any(|r| r.buffer == "CPU"), "{kind}: {results:?}");
            assert!(results.iter().all(|r| r.error < 0.05), "{kind}: {results:?}");
        }
        Ok(())
    }

    #[test]
    fn times_plain_memory_first() -> Result<(), Error> {
        let times = matmul_times(GgmlType::Q4_K, 32, 2)?;
        let first = times.iter().find(|time| time.buffer != super::OUR_DEVICE).map(|time| time.buffer.as_str());
        assert_eq!(first, Some(super::PLAIN), "{times:?}");
        assert!(times.iter().all(|time| time.seconds.len() == times[0].seconds.len()), "{times:?}");
        assert!(times.iter().flat_map(|time| &time.seconds).all(|seconds| *seconds > 0.0), "{times:?}");
        Ok(())
    }
}

//! The output matrix of a model, which turns hidden states into logits.

use crate::error::{Code, Failure};
use std::path::Path;
use tulu_quantize::gguf::{Gguf, open_parts};
use tulu_quantize::platform::read_exact_at;

/// Rows of hidden states that are multiplied at a time.
const ROWS: usize = 4;
/// Rows of the matrix that are multiplied at a time.
const COLUMNS: usize = 4;
/// Values that are added in one accumulator each.
const LANES: usize = 16;

/// The matrix in f32: a row of `n_embd` values for each token.
#[derive(Debug)]
pub(crate) struct OutputMatrix {
    weights: Vec<f32>,
    n_embd: usize,
    n_vocab: usize,
}

impl OutputMatrix {
    /// Reads `output.weight` of the GGUF file at `path`, or `token_embd.weight` where it serves as both.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let (first, others) = open_parts(path)?;
        let parts: Vec<Gguf> = std::iter::once(first).chain(others).collect();
        let all = || parts.iter().flat_map(|part| part.tensors.iter().map(move |tensor| (part, tensor)));
        let find = |name: &str| all().find(|(_, tensor)| tensor.name == name);
        let bad = |what: String| Failure::input(Code::Model, what, "give a LLaMA model").at(path);
        let tensor = find("output.weight").or_else(|| find("token_embd.weight"));
        let (gguf, tensor) = tensor.ok_or_else(|| bad("output.weight is missing".to_owned()))?;
        let [n_embd, n_vocab] = tensor.dims[..] else { return Err(bad(format!("{} is no matrix", tensor.name))) };
        let size = |n: u64| usize::try_from(n).map_err(|err| bad(err.to_string()));
        let (n_embd, n_vocab) = (size(n_embd)?, size(n_vocab)?);
        let mut bytes = vec![0; size(tensor.bytes)?];
        let io = |err: std::io::Error| Failure::io(path, "cannot read the output matrix", &err);
        read_exact_at(&gguf.file, &mut bytes, tensor.offset).map_err(io)?;
        let mut weights = vec![0.0; n_embd * n_vocab];
        llama_ext::to_f32(tensor.ggml_type, &bytes, &mut weights).map_err(|err| bad(err.to_string()))?;
        Ok(Self { weights, n_embd, n_vocab })
    }

    /// Values of a hidden state.
    pub(crate) fn n_embd(&self) -> usize {
        self.n_embd
    }

    /// Tokens of the vocabulary.
    pub(crate) fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Returns the logits of hidden states, one row of `n_vocab` values for each.
    pub(crate) fn logits(&self, states: &[f32], n_threads: usize) -> Vec<f32> {
        let n = states.len() / self.n_embd.max(1);
        let mut out = vec![0.0; n * self.n_vocab];
        let part = n.div_ceil(n_threads.max(1)).next_multiple_of(ROWS);
        std::thread::scope(|scope| {
            let parts = states.chunks(part * self.n_embd).zip(out.chunks_mut(part * self.n_vocab));
            for (states, out) in parts {
                scope.spawn(move || {
                    for (states, out) in states.chunks(ROWS * self.n_embd).zip(out.chunks_mut(ROWS * self.n_vocab)) {
                        self.multiply(states, out);
                    }
                });
            }
        });
        out
    }

    /// Multiplies up to [`ROWS`] states with the whole matrix.
    fn multiply(&self, states: &[f32], out: &mut [f32]) {
        let (n, d) = (states.len() / self.n_embd, self.n_embd);
        for (tile, rows) in self.weights.chunks(COLUMNS * d).enumerate() {
            let columns = rows.len() / d;
            let dots = if n == ROWS && columns == COLUMNS && d.is_multiple_of(LANES) {
                tile_dots(states, rows, d)
            } else {
                slow_dots(states, rows, d)
            };
            for row in 0..n {
                for column in 0..columns {
                    out[row * self.n_vocab + tile * COLUMNS + column] = dots[row][column];
                }
            }
        }
    }
}

/// Returns the products of four states and four rows of the matrix.
fn tile_dots(states: &[f32], rows: &[f32], d: usize) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[[0.0_f32; LANES]; COLUMNS]; ROWS];
    let lanes = |of: &'_ [f32], row: usize, at: usize| -> [f32; LANES] {
        let from = row * d + at;
        of.get(from..from + LANES).and_then(|values| values.try_into().ok()).unwrap_or([0.0; LANES])
    };
    for at in (0..d).step_by(LANES) {
        let weights: [[f32; LANES]; COLUMNS] = std::array::from_fn(|column| lanes(rows, column, at));
        for (row, sums) in sums.iter_mut().enumerate() {
            let state = lanes(states, row, at);
            for (weights, sums) in weights.iter().zip(sums.iter_mut()) {
                for i in 0..LANES {
                    sums[i] = state[i].mul_add(weights[i], sums[i]);
                }
            }
        }
    }
    sums.map(|row| row.map(|lanes| lanes.iter().sum()))
}

fn slow_dots(states: &[f32], rows: &[f32], d: usize) -> [[f32; COLUMNS]; ROWS] {
    let mut dots = [[0.0; COLUMNS]; ROWS];
    for (state, dots) in states.chunks(d).zip(&mut dots) {
        for (row, dot) in rows.chunks(d).zip(dots) {
            *dot = state.iter().zip(row).map(|(a, b)| a * b).sum();
        }
    }
    dots
}

#[cfg(test)]
mod tests {
    use super::OutputMatrix;

    #[test]
    fn products_are_those_of_the_definition() {
        for (n, d, v) in [(1, 16, 4), (9, 48, 37), (5, 20, 6), (64, 256, 100)] {
            let value = |i: usize| ((i * 7919 % 1009) as f32 - 504.0) / 504.0;
            let weights: Vec<f32> = (0..v * d).map(value).collect();
            let states: Vec<f32> = (0..n * d).map(|i| value(i + 17)).collect();
            let matrix = OutputMatrix { weights: weights.clone(), n_embd: d, n_vocab: v };
            for threads in [1, 3] {
                let logits = matrix.logits(&states, threads);
                for row in 0..n {
                    for token in 0..v {
                        let exact: f64 =
                            (0..d).map(|i| f64::from(states[row * d + i]) * f64::from(weights[token * d + i])).sum();
                        assert!((f64::from(logits[row * v + token]) - exact).abs() < 1e-4, "{n} {d} {v} {row} {token}");
                    }
                }
            }
        }
    }
}

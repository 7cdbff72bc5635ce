//! Estimates the size of a GGUF file from the numbers in config.json alone, before a checkpoint is available. Tensors
//! and types are chosen as in `plan/`.

use crate::checkpoint::Config;
use crate::gguf::{ALIGNMENT, align};
use crate::llama_tensors;
use llama_ext::{Error, Ftype, GgmlType, TensorDesc, TypeRules};

/// Returns the number of parameters of a model with the numbers in `config`.
#[must_use]
pub fn params(config: &Config) -> u64 {
    llama_tensors::expected(config).iter().map(|t| t.shape.iter().product::<u64>()).sum()
}

/// Returns the bytes of all tensors, with padding, of a model with the numbers in `config`, converted from BF16 to
/// `ftype`. The file also has a header, about 20 bytes for each token of the vocabulary.
///
/// # Errors
/// [`Error::Native`] when llama.cpp's rules reject the numbers, [`Error::Block`] when a type cannot store a row.
pub fn tensor_bytes(config: &Config, ftype: Ftype) -> Result<u64, Error> {
    let known = llama_tensors::expected(config);
    let described: Vec<TensorDesc<'_>> = known
        .iter()
        .map(|t| match t.shape.as_slice() {
            [rows, columns] => TensorDesc { name: &t.name, n_per_row: *columns, n_rows: *rows, source: GgmlType::BF16 },
            other => TensorDesc { name: &t.name, n_per_row: other.iter().product(), n_rows: 0, source: GgmlType::F32 },
        })
        .collect();
    let types = llama_ext::tensor_types(&llama_tensors::model_shape(config), &TypeRules::plain(ftype), &described)?;
    let computed = llama_tensors::computed(config);
    let bytes = |n: usize| align((n as u64).saturating_mul(4), ALIGNMENT).unwrap_or(u64::MAX >> 16);
    let mut total: u64 = computed.iter().map(|t| bytes(t.weights.len())).sum();
    for (t, ggml_type) in described.iter().zip(types) {
        let row = ggml_type.row_bytes(usize::try_from(t.n_per_row).unwrap_or(0))? as u64;
        total += align(row.saturating_mul(t.n_rows.max(1)), ALIGNMENT).unwrap_or(u64::MAX >> 16);
    }
    Ok(total)
}

//! f32 rows to quantized blocks. Today every type goes to ggml's own quantizers through the border crate; faster kernels
//! with the same bytes take their place here, type by type.

use llama_ext::{Error, GgmlType};

/// Quantizes whole rows of `n_per_row` weights into `dst`; `importance` has a weight for each column.
pub(crate) fn quantize(
    to: GgmlType,
    src: &[f32],
    n_per_row: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), Error> {
    llama_ext::quantize_rows(to, src, n_per_row, importance, dst)
}

//! The self-test of a device: an attention, compared with f64. Products are in [`crate::cpu_check`].

use crate::attention::Attention;
use crate::cpu_check::noise;
use crate::devices::Device;
use crate::quantize_rows::{quantize_rows, to_f32};
use crate::{Error, GgmlType};

/// Values in a head, heads, key-value heads, tokens and cells of the test.
const DIM: usize = 64;
const HEADS: usize = 8;
const KV_HEADS: usize = 4;
const TOKENS: usize = 8;
const CELLS: usize = 256;
/// Half floats: 0, and minus infinity, which hides a cell.
const SHOWN: u16 = 0;
const HIDDEN: u16 = 0xfc00;

/// Computes attention over f16 keys and values on a device: 8 tokens, 256 cells of which each token sees another part.
/// Returns the largest absolute error divided by the root mean square of the exact result; `None` if the device has no
/// kernel for it.
///
/// # Errors
/// [`Error::Native`] when the device cannot compute it.
pub fn attention_test(device: &Device) -> Result<Option<f32>, Error> {
    let rows = |seed| -> Result<(Vec<u8>, Vec<f32>), Error> {
        let mut packed = vec![0; GgmlType::F16.row_bytes(DIM)? * CELLS * KV_HEADS];
        quantize_rows(GgmlType::F16, &noise(seed, DIM * CELLS * KV_HEADS), DIM, None, &mut packed)?;
        let mut exact = vec![0.0; DIM * CELLS * KV_HEADS];
        to_f32(GgmlType::F16, &packed, &mut exact)?;
        Ok((packed, exact))
    };
    let ((k, keys), (v, values)) = (rows(3)?, rows(4)?);
    let q = noise(5, DIM * TOKENS * HEADS);
    let sees = |token: usize, cell: usize| cell <= CELLS / 2 + token && cell % 7 != token % 7;
    let mask = (0..TOKENS).flat_map(|token| (0..CELLS).map(move |cell| if sees(token, cell) { SHOWN } else { HIDDEN }));
    let attention = Attention {
        dim: DIM,
        n_head: HEADS,
        n_head_kv: KV_HEADS,
        k_type: GgmlType::F16,
        v_type: GgmlType::F16,
        q: q.clone(),
        k,
        v,
        mask: mask.collect(),
    };
    let Some(found) = attention.compute_on(device)? else { return Ok(None) };
    let mut exact = Vec::with_capacity(found.len());
    for token in 0..TOKENS {
        for head in 0..HEADS {
            let query = &q[(head * TOKENS + token) * DIM..][..DIM];
            let row = |of: &[f32], cell: usize| -> Vec<f64> {
                let kv_head = head / (HEADS / KV_HEADS);
                of[(kv_head * CELLS + cell) * DIM..][..DIM].iter().map(|x| f64::from(*x)).collect()
            };
            let score = |cell| {
                let dot: f64 = row(&keys, cell).iter().zip(query).map(|(k, q)| k * f64::from(*q)).sum();
                (dot / (DIM as f64).sqrt()).exp()
            };
            let seen: Vec<(usize, f64)> =
                (0..CELLS).filter(|cell| sees(token, *cell)).map(|cell| (cell, score(cell))).collect();
            let sum: f64 = seen.iter().map(|(_, score)| score).sum();
            let mut out = vec![0.0; DIM];
            for (cell, score) in &seen {
                row(&values, *cell).iter().zip(&mut out).for_each(|(value, out)| *out += value * score / sum);
            }
            exact.extend(out);
        }
    }
    let scale = (exact.iter().map(|x| x * x).sum::<f64>() / exact.len() as f64).sqrt();
    let worst = found.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    let nan = found.iter().any(|x| x.is_nan());
    Ok(Some(if nan { f32::NAN } else { (worst / scale) as f32 }))
}

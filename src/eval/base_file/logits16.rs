//! Stores all logits of a row in 16 bits between its largest and smallest, which is at most 16 below the largest: the
//! precision of llama-perplexity's files.

/// Logits more than this below the largest are stored as if they were this much below.
const RANGE: f32 = 16.0;

/// Encodes rows of `n_vocab` logits.
pub(super) fn encode(rows: &[&[f32]]) -> Vec<u8> {
    let mut out = Vec::new();
    for row in rows {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let min = row.iter().copied().fold(f32::INFINITY, f32::min).max(max - RANGE);
        let scale = (max - min) / f32::from(u16::MAX);
        out.extend(scale.to_le_bytes());
        out.extend(min.to_le_bytes());
        for logit in *row {
            let steps = if scale > 0.0 { ((logit - min) / scale).round_ties_even().max(0.0) } else { 0.0 };
            out.extend((steps as u16).to_le_bytes());
        }
    }
    out
}

/// Returns the logits that [`encode`] stored, row after row; `None` when bytes are missing.
pub(super) fn decode(bytes: &[u8], n_vocab: usize, n_rows: usize) -> Option<Vec<f32>> {
    let len = n_vocab.checked_mul(2)?.checked_add(8)?;
    if bytes.len() != len.checked_mul(n_rows)? {
        return None;
    }
    let mut logits = Vec::with_capacity(n_vocab * n_rows);
    for row in bytes.chunks_exact(len) {
        let float = |at: usize| f32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        let (scale, min) = (float(0), float(4));
        let steps = row[8..].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        logits.extend(steps.map(|steps| f32::from(steps) * scale + min));
    }
    Some(logits)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn logits_come_back_to_16_bits() {
        let row: Vec<f32> = (0..1001).map(|i| (i * 7919 % 1009) as f32 / 100.0).collect();
        let bytes = encode(&[&row, &[3.0; 1001]]);
        let read = decode(&bytes, 1001, 2).unwrap();
        assert!(read.iter().zip(&row).all(|(a, b)| (a - b).abs() < 1e-4));
        assert_eq!(read[1001..], [3.0; 1001]);
        assert!(decode(&bytes[1..], 1001, 2).is_none());
    }
}

//! Stores hidden states: every value is rounded to a multiple of one step, and the multiples are stored as Rice codes with
//! the best parameter for each column. The step is the smallest for which the block fits into its budget.

use super::bits::{Reader, Writer, rice_bits};

/// Finest step, as a part of the root mean square of all values: the error is then below that of 16-bit logits.
const STEP_MIN: f32 = 1.0 / 8192.0;
/// Tries to find the step.
const TRIES: u32 = 10;
/// Largest Rice parameter.
const K_MAX: u32 = 20;

/// Encodes rows of `n_embd` values in at most `budget` bytes, if they fit at all.
pub(super) fn encode(states: &[f32], n_embd: usize, budget: usize) -> Vec<u8> {
    let squares: f64 = states.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let rms = (squares / states.len().max(1) as f64).sqrt() as f32;
    let finest = (rms * STEP_MIN).max(f32::MIN_POSITIVE);
    let fits = |step: f32| plan(states, n_embd, step).1 <= budget as u64;
    let step = if fits(finest) {
        finest
    } else {
        // Steps are tried on a logarithmic scale; one of twice the root mean square stores almost nothing.
        let (mut low, mut high) = (finest.log2(), (2.0 * rms).log2());
        for _ in 0..TRIES {
            let middle = f32::midpoint(low, high);
            if fits(middle.exp2()) { high = middle } else { low = middle }
        }
        high.exp2()
    };
    let (parameters, _) = plan(states, n_embd, step);
    let mut out = step.to_le_bytes().to_vec();
    out.extend(parameters.iter().map(|k| *k as u8));
    let mut writer = Writer::default();
    for (i, value) in states.iter().enumerate() {
        writer.put_rice(multiple(*value, step), parameters[i % n_embd]);
    }
    out.extend(writer.finish());
    out
}

/// Returns the rows that [`encode`] stored; `None` when bytes are missing.
pub(super) fn decode(bytes: &[u8], n_embd: usize, n_rows: usize) -> Option<Vec<f32>> {
    let (step, rest) = bytes.split_first_chunk::<4>()?;
    let step = f32::from_le_bytes(*step);
    let (parameters, bits) = rest.split_at_checked(n_embd)?;
    if parameters.iter().any(|k| u32::from(*k) > K_MAX) {
        return None;
    }
    let mut reader = Reader::new(bits);
    let columns = parameters.iter().cycle().take(n_rows.checked_mul(n_embd)?);
    columns.map(|k| reader.take_rice((*k).into()).map(|multiple| multiple as f32 * step)).collect()
}

fn multiple(value: f32, step: f32) -> i32 {
    (value / step).round_ties_even() as i32
}

/// Returns the best parameter of each column, and the bytes of the block.
fn plan(states: &[f32], n_embd: usize, step: f32) -> (Vec<u32>, u64) {
    let mut sums = vec![0.0_f64; n_embd];
    for row in states.chunks(n_embd) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from((value / step).abs());
        }
    }
    let n_rows = (states.len() / n_embd.max(1)).max(1) as f64;
    let first = sums.iter().map(|sum| (sum / n_rows).max(1.0).log2() as u32);
    let mut bits = 0;
    let parameters = first.enumerate().map(|(column, k)| {
        let cost = |k: u32| -> u64 {
            states.iter().skip(column).step_by(n_embd).map(|value| rice_bits(multiple(*value, step), k)).sum()
        };
        let choices = k.saturating_sub(1)..=(k + 1).min(K_MAX);
        let (cost, k) = choices.map(|k| (cost(k), k)).min().unwrap_or((0, 0));
        bits += cost;
        k
    });
    let parameters: Vec<u32> = parameters.collect();
    (parameters, 4 + n_embd as u64 + bits.div_ceil(8))
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn states_fit_their_budget_and_come_back_rounded() {
        let (n_embd, n_rows) = (64, 100);
        let value = |i: usize| ((i * 7919 % 2003) as f32 / 1001.5 - 1.0) * (1 + i % 64 / 16) as f32;
        let states: Vec<f32> = (0..n_embd * n_rows).map(value).collect();
        for (bits, error) in [(6, 0.2), (9, 0.03), (12, 0.004), (24, 0.0003)] {
            let budget = n_embd * n_rows * bits / 8 + n_embd + 4;
            let bytes = encode(&states, n_embd, budget);
            assert!(bytes.len() <= budget, "{bits}");
            let read = decode(&bytes, n_embd, n_rows).unwrap();
            let largest = read.iter().zip(&states).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < error, "{bits}: {largest}");
            assert!(decode(&bytes[..bytes.len() - 2], n_embd, n_rows).is_none());
        }
        assert_eq!(decode(&encode(&[0.0; 128], 64, 100), 64, 2).unwrap(), [0.0; 128]);
    }
}

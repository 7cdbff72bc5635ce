//! Decides whether llama.cpp repacks the weights for the CPU's kernels (CPU_REPACK blocks, AMX tiles). Without
//! repacking, the weights take half the memory, because the mapped file is the only copy, and our own kernels multiply
//! them. The faster choice depends on the CPU, the type and the rows of a batch, so it is measured.

use super::settings::{N_SLOTS_MAX, Repack};
use llama_ext::GgmlType;
use llama_ext::cpu_check::{MatmulTime, OUR_DEVICE, PLAIN, matmul_times};

/// With fewer slots than this, most of the time is spent in generation.
const SLOTS_MANY: u32 = 4;

/// Minimum bytes of weights for a measurement. For smaller models it would take more time than it saves.
const BYTES_TO_MEASURE: u64 = 256 << 20;

/// With few slots, the work that is measured: a turn of this many prompt tokens and as many answer tokens.
const TURN: u16 = 256;

/// Rows of a batch of prompt tokens in the measurement. Longer batches take about the same time for each row.
const PREFILL_ROWS: u16 = 64;

/// Weights in a row, to ask for a kernel.
const ROW: usize = 4096;

/// Whether our kernels compute a single row of a batch with weights of the type `kind`. In generation, both ways read all
/// weights from memory and take about as long; a measurement with weights in the CPU's caches would mislead.
fn computes_single_rows(kind: GgmlType) -> bool {
    llama_ext::accel::register().matmul.is_some() && llama_ext::matmul::path_for(kind, ROW, 1).is_some()
}

/// Returns whether to repack `bytes` of weights, most of them of the type `kind`, for `n_slots` sequences.
pub(super) fn decide(asked: Repack, kind: GgmlType, bytes: u64, n_slots: u32, n_threads: u32) -> bool {
    let few = n_slots < SLOTS_MANY;
    match asked {
        Repack::On => true,
        Repack::Off => false,
        Repack::Auto if few && bytes < BYTES_TO_MEASURE => !computes_single_rows(kind),
        Repack::Auto if few && llama_ext::accel::register().matmul.is_none() => true,
        Repack::Auto => {
            let threads = u16::try_from(n_threads).unwrap_or(u16::MAX);
            let measure = |rows| seconds(&matmul_times(kind, rows, threads).unwrap_or_default());
            // With many slots, a typical batch has one row for each answer, and about as many rows of prompts.
            let work = if few && computes_single_rows(kind) {
                measure(usize::from(PREFILL_ROWS))
            } else if few {
                let (generation, prefill) = (measure(n_slots as usize), measure(usize::from(PREFILL_ROWS)));
                let per_token = f64::from(TURN) / f64::from(n_slots);
                let per_batch = f64::from(TURN) / f64::from(PREFILL_ROWS);
                Choice {
                    stored: total(&generation.stored, per_token, &prefill.stored, per_batch),
                    repacked: total(&generation.repacked, per_token, &prefill.repacked, per_batch),
                }
            } else {
                measure(2 * n_slots as usize)
            };
            // Without a kind of buffer to repack to, llama.cpp ignores the request to repack.
            work.stored.is_empty() || work.repacked.is_empty() || wins(&work.repacked, &work.stored)
        }
    }
}

/// Seconds of each round with stored and with repacked weights. Empty if not measured.
struct Choice {
    stored: Vec<f64>,
    repacked: Vec<f64>,
}

/// Returns the times of the kernels that llama.cpp would use with stored and with repacked weights.
fn seconds(times: &[MatmulTime]) -> Choice {
    let of = |wanted: fn(&str) -> bool| times.iter().find(|time| wanted(&time.buffer)).map(|time| time.seconds.clone());
    let stored = of(|buffer| buffer == OUR_DEVICE).or_else(|| of(|buffer| buffer == PLAIN));
    // llama.cpp uses the first of the other kinds.
    let repacked = of(|buffer| ![OUR_DEVICE, PLAIN].contains(&buffer));
    Choice { stored: stored.unwrap_or_default(), repacked: repacked.unwrap_or_default() }
}

/// Returns the seconds of `n_one` products of `one` and `n_other` of `other` in each round.
fn total(one: &[f64], n_one: f64, other: &[f64], n_other: f64) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| n_one * one + n_other * other).collect()
}

/// Returns whether `one` is faster than `other` in most rounds. Rounds are short, so that other load on the machine
/// affects both equally.
fn wins(one: &[f64], other: &[f64]) -> bool {
    let won = one.iter().zip(other).filter(|(one, other)| one < other).count();
    2 * won > one.len().min(other.len())
}

/// Returns the number of prompts to prefill ahead for `n_slots` sequences. Without repacking, unpacking the weights
/// costs as much as about 16 rows in each batch, so a prompt row in a batch of answers costs half as much as in a
/// separate batch.
pub(super) fn n_ahead(repacked: bool, n_slots: u32) -> u32 {
    if repacked || n_slots < SLOTS_MANY { 0 } else { n_slots.min(N_SLOTS_MAX - n_slots) }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_TO_MEASURE, GgmlType, MatmulTime, N_SLOTS_MAX, Repack};
    use super::{computes_single_rows, decide, n_ahead, seconds, total, wins};

    fn time(buffer: &str, seconds: f64) -> MatmulTime {
        MatmulTime { buffer: buffer.to_owned(), seconds: vec![seconds; 3] }
    }

    #[test]
    fn most_rounds_decide() {
        assert!(wins(&[1.0, 1.0, 10.0], &[2.0, 2.0, 9.0]));
        assert!(!wins(&[2.0, 2.0, 1.0], &[1.0, 1.0, 9.0]));
        assert!(!wins(&[1.0, 1.0], &[1.0, 1.0]));
    }

    #[test]
    fn a_turn_counts_its_prompt_and_its_answer() {
        assert_eq!(total(&[1.0, 2.0], 10.0, &[0.5, 0.25], 4.0), [12.0, 21.0]);
    }

    #[test]
    fn our_kernels_are_compared_with_the_first_kind_of_repacked_weights() {
        let choice = seconds(&[time("TULU", 1.0), time("CPU", 2.0), time("AMX", 3.0), time("CPU_REPACK", 4.0)]);
        assert_eq!((choice.stored, choice.repacked), (vec![1.0; 3], vec![3.0; 3]));
        let choice = seconds(&[time("CPU", 2.0)]);
        assert_eq!((choice.stored, choice.repacked), (vec![2.0; 3], Vec::new()));
    }

    #[test]
    fn small_models_are_not_measured_and_the_flag_is_respected() {
        assert!(decide(Repack::Auto, GgmlType::F16, BYTES_TO_MEASURE - 1, 1, 1));
        let ours = computes_single_rows(GgmlType::Q4_K);
        assert_eq!(decide(Repack::Auto, GgmlType::Q4_K, BYTES_TO_MEASURE - 1, 1, 1), !ours);
        assert!(decide(Repack::On, GgmlType::Q4_K, u64::MAX, 16, 1));
        assert!(!decide(Repack::Off, GgmlType::Q4_K, u64::MAX, 1, 1));
    }

    #[test]
    fn prompts_prefilled_ahead_fit_into_the_context() {
        assert_eq!((n_ahead(true, 16), n_ahead(false, 1), n_ahead(false, 16)), (0, 0, 16));
        assert_eq!(n_ahead(false, 200) + 200, N_SLOTS_MAX);
        assert_eq!(n_ahead(false, N_SLOTS_MAX), 0);
    }
}

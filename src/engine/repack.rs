//! Decides whether llama.cpp repacks the weights for the CPU's kernels (CPU_REPACK blocks, AMX tiles). Without
//! repacking, the weights take half the memory, because the mapped file is the only copy, and our own kernels multiply
//! them with two and more columns. The faster choice depends on the CPU, the type and the rows of a batch, so it is
//! measured.

use super::settings::{N_SLOTS_MAX, Repack};
use llama_ext::GgmlType;
use llama_ext::cpu_check::{MatmulTime, OUR_DEVICE, PLAIN, matmul_times};

/// With fewer slots than this, most of the time is spent in generation.
const SLOTS_MANY: u32 = 4;

/// Minimum bytes of weights for a measurement. For smaller models it would take more time than it saves.
const BYTES_TO_MEASURE: u64 = 256 << 20;

/// With few slots, repacking must make generation faster by at least this fraction, because it makes prefill slower by
/// about the same fraction.
const GAIN_MIN: f64 = 0.03;

/// Returns whether to repack `bytes` of weights, most of them of the type `kind`, for `n_slots` sequences.
pub(super) fn decide(asked: Repack, kind: GgmlType, bytes: u64, n_slots: u32, n_threads: u32) -> bool {
    let few = n_slots < SLOTS_MANY;
    match asked {
        Repack::On => true,
        Repack::Off => false,
        Repack::Auto if few && (bytes < BYTES_TO_MEASURE || llama_ext::accel::register().matmul.is_none()) => true,
        Repack::Auto => {
            // With many slots, a typical batch has one row for each answer, and about as many rows of prompts.
            let rows = if few { n_slots } else { 2 * n_slots } as usize;
            let times = matmul_times(kind, rows, u16::try_from(n_threads).unwrap_or(u16::MAX)).unwrap_or_default();
            let of = |wanted: fn(&str) -> bool| times.iter().find(|time| wanted(&time.buffer));
            let stored = of(|buffer| buffer == OUR_DEVICE).or_else(|| of(|buffer| buffer == PLAIN));
            // llama.cpp uses the first of the other kinds.
            let repacked = of(|buffer| ![OUR_DEVICE, PLAIN].contains(&buffer));
            let (Some(stored), Some(repacked)) = (stored, repacked) else { return true };
            wins(repacked, stored, if few { GAIN_MIN } else { 0.0 })
        }
    }
}

/// Returns whether `one` is faster than `other` by more than the fraction `gain` in most rounds. Rounds are short, so
/// that other load on the machine affects both equally.
fn wins(one: &MatmulTime, other: &MatmulTime, gain: f64) -> bool {
    let rounds: Vec<bool> =
        one.seconds.iter().zip(&other.seconds).map(|(one, other)| *one < (1.0 - gain) * other).collect();
    2 * rounds.iter().filter(|won| **won).count() > rounds.len()
}

/// Returns the number of prompts to prefill ahead for `n_slots` sequences. Without repacking, unpacking the weights
/// costs as much as about 16 rows in each batch, so a prompt row in a batch of answers costs half as much as in a
/// separate batch.
pub(super) fn n_ahead(repacked: bool, n_slots: u32) -> u32 {
    if repacked || n_slots < SLOTS_MANY { 0 } else { n_slots.min(N_SLOTS_MAX - n_slots) }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_TO_MEASURE, GgmlType, MatmulTime, N_SLOTS_MAX, Repack, decide, n_ahead, wins};

    fn seconds(seconds: &[f64]) -> MatmulTime {
        MatmulTime { buffer: String::new(), seconds: seconds.to_vec() }
    }

    #[test]
    fn most_rounds_decide() {
        assert!(wins(&seconds(&[1.0, 1.0, 10.0]), &seconds(&[2.0, 2.0, 9.0]), 0.0));
        assert!(!wins(&seconds(&[2.0, 2.0, 1.0]), &seconds(&[1.0, 1.0, 9.0]), 0.0));
        assert!(!wins(&seconds(&[0.98, 0.98, 0.98]), &seconds(&[1.0, 1.0, 1.0]), 0.03));
    }

    #[test]
    fn small_models_are_not_measured_and_the_flag_is_respected() {
        assert!(decide(Repack::Auto, GgmlType::Q4_K, BYTES_TO_MEASURE - 1, 1, 1));
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

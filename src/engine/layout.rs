//! How the weights lie in memory: as the file stores them, or rearranged for the CPU's kernels (llama.cpp's repacked
//! blocks, AMX tiles). As stored they take half the memory, since the mapped file is all there is, and our own kernels
//! multiply them with two and more columns. Which is faster depends on the CPU, the type and the rows of a batch, so it is
//! measured.

use super::settings::{N_SLOTS_MAX, Repack};
use llama_ext::GgmlType;
use llama_ext::cpu_check::{MatmulTime, OUR_DEVICE, PLAIN, matmul_times};

/// With fewer slots than this, generation is most of the time.
const SLOTS_MANY: u32 = 4;

/// Smaller weights are fast either way, and a measurement would take longer than it saves.
const BYTES_TO_MEASURE: u64 = 256 << 20;

/// Few sequences: what rearranged weights have to gain in generation, because they lose as much in prompts.
const GAIN_MIN: f64 = 0.03;

/// Whether to rearrange `bytes` of weights, most of which are stored as `kind`, for `n_slots` conversations at once.
pub(super) fn repacked(asked: Repack, kind: GgmlType, bytes: u64, n_slots: u32, n_threads: u32) -> bool {
    let few = n_slots < SLOTS_MANY;
    match asked {
        Repack::On => true,
        Repack::Off => false,
        Repack::Auto if few && (bytes < BYTES_TO_MEASURE || llama_ext::accel::register().matmul.is_none()) => true,
        Repack::Auto => {
            // Many: a step in the middle of much work, with a token of each answer and about as many of the prompts to come.
            let rows = if few { n_slots } else { 2 * n_slots } as usize;
            let times = matmul_times(kind, rows, u16::try_from(n_threads).unwrap_or(u16::MAX)).unwrap_or_default();
            let of = |wanted: fn(&str) -> bool| times.iter().find(|time| wanted(&time.buffer));
            let stored = of(|buffer| buffer == OUR_DEVICE).or_else(|| of(|buffer| buffer == PLAIN));
            // llama.cpp takes the first of the others.
            let rearranged = of(|buffer| ![OUR_DEVICE, PLAIN].contains(&buffer));
            let (Some(stored), Some(rearranged)) = (stored, rearranged) else { return true };
            wins(rearranged, stored, if few { GAIN_MIN } else { 0.0 })
        }
    }
}

/// Whether `one` is faster than `other` by more than the part `gain` in most rounds; rounds are short, so that other load on
/// the machine slows both alike.
fn wins(one: &MatmulTime, other: &MatmulTime, gain: f64) -> bool {
    let rounds: Vec<bool> =
        one.seconds.iter().zip(&other.seconds).map(|(one, other)| *one < (1.0 - gain) * other).collect();
    2 * rounds.iter().filter(|won| **won).count() > rounds.len()
}

/// How many prompts to prefill ahead for `n_slots` conversations. With weights as stored, a batch has a fixed cost of about 16
/// rows (they are unpacked), so rows of prompts that are added to a batch of answers cost half of what they would alone.
pub(super) fn ahead(repacked: bool, n_slots: u32) -> u32 {
    if repacked || n_slots < SLOTS_MANY { 0 } else { n_slots.min(N_SLOTS_MAX - n_slots) }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_TO_MEASURE, GgmlType, MatmulTime, N_SLOTS_MAX, Repack, ahead, repacked, wins};

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
    fn small_weights_are_not_measured_and_what_is_asked_is_done() {
        assert!(repacked(Repack::Auto, GgmlType::Q4_K, BYTES_TO_MEASURE - 1, 1, 1));
        assert!(repacked(Repack::On, GgmlType::Q4_K, u64::MAX, 16, 1));
        assert!(!repacked(Repack::Off, GgmlType::Q4_K, u64::MAX, 1, 1));
    }

    #[test]
    fn what_is_read_ahead_fits_into_a_context() {
        assert_eq!((ahead(true, 16), ahead(false, 1), ahead(false, 16)), (0, 0, 16));
        assert_eq!(ahead(false, 200) + 200, N_SLOTS_MAX);
        assert_eq!(ahead(false, N_SLOTS_MAX), 0);
    }
}

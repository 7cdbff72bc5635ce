//! How the weights lie in memory: as the file stores them, or rearranged for the CPU's kernels (llama.cpp's repacked
//! blocks, AMX tiles). Which is faster depends on the CPU, the type and the rows of a batch, so it is measured. On a Zen 4
//! with Q4_K, rearranged weights generate one answer 15 % faster; as stored they read prompts 1.5 times as fast, and take
//! half the memory, since the mapped file is all there is.

use super::settings::{N_SLOTS_MAX, Repack};
use llama_ext::GgmlType;
use llama_ext::cpu::matmul_times;

/// With fewer slots than this, generation is most of the time, and rearranged weights are made for it.
const SLOTS_TO_MEASURE: u32 = 4;

/// Whether to rearrange the weights, most of which are stored as `kind`, for `n_slots` conversations at once.
pub(super) fn repacked(asked: Repack, kind: GgmlType, n_slots: u32, n_threads: u32) -> bool {
    match asked {
        Repack::On => true,
        Repack::Off => false,
        Repack::Auto if n_slots < SLOTS_TO_MEASURE => true,
        Repack::Auto => {
            // A step in the middle of much work: a token of each answer, and about as many of the prompts to come.
            let rows = 2 * n_slots as usize;
            let times = matmul_times(kind, rows, u16::try_from(n_threads).unwrap_or(u16::MAX)).unwrap_or_default();
            // llama.cpp takes the first of the others.
            let [stored, rearranged, ..] = times.as_slice() else { return true };
            rearranged_wins(&stored.seconds, &rearranged.seconds)
        }
    }
}

/// Which is faster in most rounds; rounds are short, so that other load on the machine slows both alike.
fn rearranged_wins(stored: &[f64], rearranged: &[f64]) -> bool {
    let wins = stored.iter().zip(rearranged).filter(|(stored, rearranged)| rearranged < stored).count();
    2 * wins > stored.len().min(rearranged.len())
}

/// How many prompts to prefill ahead for `n_slots` conversations. With weights as stored, a batch has a fixed cost of about 16
/// rows (they are unpacked), so rows of prompts that are added to a batch of answers cost half of what they would alone.
pub(super) fn ahead(repacked: bool, n_slots: u32) -> u32 {
    if repacked || n_slots < SLOTS_TO_MEASURE { 0 } else { n_slots.min(N_SLOTS_MAX - n_slots) }
}

#[cfg(test)]
mod tests {
    use super::{GgmlType, N_SLOTS_MAX, Repack, ahead, rearranged_wins, repacked};

    #[test]
    fn most_rounds_decide() {
        assert!(rearranged_wins(&[2.0, 2.0, 9.0], &[1.0, 1.0, 10.0]));
        assert!(!rearranged_wins(&[1.0, 1.0, 9.0], &[2.0, 2.0, 1.0]));
    }

    #[test]
    fn one_answer_at_a_time_is_not_measured_and_what_is_asked_is_done() {
        assert!(repacked(Repack::Auto, GgmlType::Q4_K, 1, 1));
        assert!(repacked(Repack::On, GgmlType::Q4_K, 16, 1));
        assert!(!repacked(Repack::Off, GgmlType::Q4_K, 1, 1));
    }

    #[test]
    fn what_is_read_ahead_fits_into_a_context() {
        assert_eq!((ahead(true, 16), ahead(false, 1), ahead(false, 16)), (0, 0, 16));
        assert_eq!(ahead(false, 200) + 200, N_SLOTS_MAX);
        assert_eq!(ahead(false, N_SLOTS_MAX), 0);
    }
}

//! Chooses a type for each group of tensors: the least sum of divergences among all choices that fit into a size. It is exact
//! for the sum; that the divergence of a whole file is the sum of those of its groups is an approximation.

/// A type for a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    /// Bytes of the group's tensors.
    pub(crate) bytes: u64,
    /// Mean divergence that the group alone causes.
    pub(crate) kl: f64,
}

/// Chosen indexes with their sums.
#[derive(Clone, Debug)]
struct Partial {
    bytes: u64,
    kl: f64,
    chosen: Vec<usize>,
}

/// Returns the index of the choice for each group, and the sum of their divergences. `None` when not even the smallest
/// choices fit into `bytes_max`.
pub(crate) fn allocate(groups: &[Vec<Choice>], bytes_max: u64) -> Option<(Vec<usize>, f64)> {
    let mut front = vec![Partial { bytes: 0, kl: 0.0, chosen: Vec::new() }];
    for choices in groups {
        let mut all: Vec<Partial> = Vec::with_capacity(front.len() * choices.len());
        for partial in &front {
            for (index, choice) in choices.iter().enumerate() {
                let bytes = partial.bytes.saturating_add(choice.bytes);
                if bytes <= bytes_max {
                    let chosen = partial.chosen.iter().copied().chain([index]).collect();
                    all.push(Partial { bytes, kl: partial.kl + choice.kl, chosen });
                }
            }
        }
        // Of two partial choices, one that is neither smaller nor better can be part of no best choice.
        all.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.kl.total_cmp(&b.kl)));
        front.clear();
        for partial in all {
            if front.last().is_none_or(|last| partial.kl < last.kl) {
                front.push(partial);
            }
        }
    }
    front.pop().map(|best| (best.chosen, best.kl))
}

#[cfg(test)]
mod tests {
    use super::{Choice, allocate};

    #[test]
    fn the_choice_is_the_best_of_all_that_fit() {
        let mut state = 5_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 40
        };
        for _ in 0..50 {
            let groups: Vec<Vec<Choice>> = (0..5)
                .map(|_| (0..3).map(|_| Choice { bytes: random() % 1000, kl: (random() % 10_000) as f64 }).collect())
                .collect();
            let bytes_max = 500 + random() % 3000;
            let mut best: Option<f64> = None;
            for all in 0..3_usize.pow(5) {
                let picked = (0..5).map(|i| groups[i as usize][all / 3_usize.pow(i) % 3]);
                let (bytes, kl) = picked.fold((0, 0.0), |(bytes, kl), one| (bytes + one.bytes, kl + one.kl));
                if bytes <= bytes_max {
                    best = Some(best.map_or(kl, |best| best.min(kl)));
                }
            }
            let found = allocate(&groups, bytes_max);
            assert_eq!(found.as_ref().map(|(_, kl)| *kl), best);
            if let Some((chosen, _)) = found {
                let bytes: u64 = chosen.iter().zip(&groups).map(|(index, group)| group[*index].bytes).sum();
                assert!(bytes <= bytes_max);
            }
        }
        assert_eq!(allocate(&[vec![Choice { bytes: 2, kl: 0.0 }]], 1), None);
    }
}

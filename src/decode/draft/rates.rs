//! Measures how often guessed tokens are right, in classes of the evidence for them: the length of the matching text.

/// Lengths at which a class begins, in tokens.
const LENGTHS: [usize; 7] = [2, 3, 4, 5, 7, 10, 16];
/// Rates that are assumed before anything was measured: of the classes of lengths, then of the second model.
const ASSUMED: [f64; LENGTHS.len() + 1] = [0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.9, 0.7];
/// The assumed rate counts as this many measurements.
const ASSUMED_WEIGHT: f64 = 4.0;
/// Older measurements count less: their weight together never exceeds this.
const WEIGHT_MAX: f64 = 48.0;

/// The fraction of right guesses, by class.
#[derive(Debug)]
pub(super) struct Rates {
    /// For each class, right guesses and all guesses, weighted.
    classes: [(f64, f64); ASSUMED.len()],
}

impl Default for Rates {
    fn default() -> Self {
        Self { classes: ASSUMED.map(|rate| (rate * ASSUMED_WEIGHT, ASSUMED_WEIGHT)) }
    }
}

impl Rates {
    /// The class of guesses that another model made.
    pub(super) const SECOND_MODEL: usize = LENGTHS.len();

    /// Returns the class of a guess whose evidence is `matched` equal tokens.
    pub(super) fn class(matched: usize) -> usize {
        LENGTHS.partition_point(|from| *from <= matched).saturating_sub(1)
    }

    /// Returns the expected probability that a guess of `class` is right.
    pub(super) fn rate(&self, class: usize) -> f64 {
        self.classes.get(class).map_or(0.0, |(right, all)| right / all)
    }

    /// Records a checked guess.
    pub(super) fn observe(&mut self, class: usize, right: bool) {
        let Some((rights, all)) = self.classes.get_mut(class) else { return };
        let keep = if *all + 1.0 > WEIGHT_MAX { (WEIGHT_MAX - 1.0) / *all } else { 1.0 };
        *rights = *rights * keep + f64::from(right);
        *all = *all * keep + 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::{LENGTHS, Rates};

    #[test]
    fn a_rate_follows_the_measurements() {
        let mut rates = Rates::default();
        let class = Rates::class(3);
        for _ in 0..200 {
            rates.observe(class, false);
        }
        assert!(rates.rate(class) < 0.02);
        for _ in 0..200 {
            rates.observe(class, true);
        }
        assert!(rates.rate(class) > 0.95);
        assert_eq!(rates.rate(Rates::class(2)), 0.25, "other classes are unchanged");
    }

    #[test]
    fn longer_matches_have_higher_classes() {
        assert_eq!(Rates::class(0), 0);
        assert_eq!(LENGTHS.map(Rates::class), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((Rates::class(6), Rates::class(15), Rates::class(999)), (3, 5, 6));
    }
}

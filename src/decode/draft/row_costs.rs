//! The measured time of a pass, by the number of its rows.

use std::time::Duration;

/// Passes with more rows are not measured: drafts are not used there.
pub(super) const ROWS_MAX: usize = 32;
/// Assumed additional time of a row, relative to the time of the largest measured pass.
const ASSUMED_SLOPE: f64 = 0.1;
/// Weight of a new measurement that is faster than the mean. Passes are slower than usual because the machine is busy with
/// something else, but never faster.
const NEW_FASTER: f64 = 0.3;
/// Weight of a new measurement that is slower.
const NEW_SLOWER: f64 = 0.1;
/// A measurement counts at most as this multiple of the mean before it.
const OUTLIER: f64 = 2.0;
/// The first measurement of a number of rows counts at most as this multiple of the expected time.
const OUTLIER_FIRST: f64 = 3.0;

/// Seconds of a pass, by its rows.
#[derive(Debug)]
pub(super) struct RowCosts {
    seconds: [Option<f64>; ROWS_MAX + 1],
}

impl Default for RowCosts {
    fn default() -> Self {
        Self { seconds: [None; ROWS_MAX + 1] }
    }
}

impl RowCosts {
    /// Records that a pass with `rows` rows took `time`.
    pub(super) fn observe(&mut self, rows: usize, time: Duration) {
        let expected = self.seconds(rows);
        let Some(mean) = self.seconds.get_mut(rows).filter(|_| rows > 0) else { return };
        let time = time.as_secs_f64();
        *mean = Some(match (*mean, expected) {
            (Some(mean), _) if time < mean => mean + NEW_FASTER * (time - mean),
            (Some(mean), _) => mean + NEW_SLOWER * (time.min(OUTLIER * mean) - mean),
            (None, Some(expected)) => time.min(OUTLIER_FIRST * expected),
            (None, None) => time,
        });
    }

    /// Returns the expected seconds of a pass with `rows` rows: measured, or interpolated between the measured
    /// neighbors. `None` if nothing is measured for as many or fewer rows.
    pub(super) fn seconds(&self, rows: usize) -> Option<f64> {
        let known = |rows: usize| self.seconds.get(rows).copied().flatten().map(|seconds| (rows, seconds));
        let (below, low) = (1..=rows).rev().find_map(known)?;
        if below == rows {
            return Some(low);
        }
        let more = (rows - below) as f64;
        Some(match (rows + 1..=ROWS_MAX).find_map(known) {
            Some((above, high)) => low + (high.max(low) - low) * more / (above - below) as f64,
            None => low * (1.0 + ASSUMED_SLOPE * more),
        })
    }

    /// Returns the maximum rows of a pass of `n` running answers that is tried next: somewhat more than the largest measured
    /// one, so that a first try cannot take much longer than expected, but one guess for each answer.
    pub(super) fn rows_to_try(&self, n: usize) -> usize {
        let largest = self.seconds.iter().rposition(Option::is_some).unwrap_or(0);
        (largest + largest / 2 + 1).max(2 * n).min(ROWS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{ROWS_MAX, RowCosts};
    use std::time::Duration;

    #[test]
    fn unknown_passes_are_interpolated() {
        let mut costs = RowCosts::default();
        assert_eq!(costs.seconds(1), None);
        costs.observe(1, Duration::from_secs(1));
        assert_eq!(costs.seconds(1), Some(1.0));
        assert_eq!(costs.rows_to_try(1), 2);
        costs.observe(5, Duration::from_secs(3));
        assert_eq!((costs.seconds(3), costs.seconds(5)), (Some(2.0), Some(3.0)));
        assert!((costs.seconds(7).unwrap_or(0.0) - 3.6).abs() < 1e-9);
        assert_eq!((costs.rows_to_try(1), costs.rows_to_try(5), costs.rows_to_try(20)), (8, 10, ROWS_MAX));
        costs.observe(ROWS_MAX + 1, Duration::from_secs(1));
        costs.observe(0, Duration::from_secs(1));
        assert_eq!(costs.rows_to_try(1), 8, "others are not measured");
    }

    #[test]
    fn a_short_disturbance_changes_little() {
        let mut costs = RowCosts::default();
        costs.observe(1, Duration::from_secs(1));
        costs.observe(1, Duration::from_secs(100));
        assert!((costs.seconds(1).unwrap_or(0.0) - 1.1).abs() < 1e-9);
        costs.observe(3, Duration::from_secs(100));
        assert!((costs.seconds(3).unwrap_or(0.0) - 3.0 * 1.1 * 1.2).abs() < 1e-9, "three times the expected time");
    }
}

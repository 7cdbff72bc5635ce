//! The time that wrong guesses may cost. Every pass adds a small fraction of its time; wrong guesses use it up, right
//! ones refill it. So drafts stop where they do not pay, and are tried again after a while, and the loss is bounded.

/// Fraction of the time of all passes that wrong guesses may cost.
const RATE: f64 = 0.01;
/// The allowance at the beginning, in passes.
const START: f64 = 1.0;
/// The largest allowance, in passes.
const MAX: f64 = 8.0;

/// Seconds that wrong guesses may still cost.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// `None` before the first pass.
    seconds: Option<f64>,
}

impl Allowance {
    /// Records a pass that took `seconds`; without drafts it would have taken `plain` seconds, and the accepted tokens
    /// would have needed other passes of `saved` seconds.
    pub(super) fn observe(&mut self, seconds: f64, plain: f64, saved: f64) {
        let left = self.seconds.unwrap_or(START * plain);
        self.seconds = Some((left + RATE * plain + plain + saved - seconds).min(MAX * plain));
    }

    /// Returns whether `seconds` may be lost now.
    pub(super) fn covers(&self, seconds: f64) -> bool {
        self.seconds.is_some_and(|left| seconds <= left)
    }
}

#[cfg(test)]
mod tests {
    use super::Allowance;

    #[test]
    fn wrong_guesses_cost_at_most_the_allowed_time() {
        let (mut allowance, mut lost, passes) = (Allowance::default(), 0.0, 10_000);
        allowance.observe(1.0, 1.0, 0.0);
        let mut tries_late = 0;
        for pass in 0..passes {
            if allowance.covers(0.5) {
                allowance.observe(1.5, 1.0, 0.0);
                lost += 0.5;
                tries_late += i32::from(pass > passes / 2);
            } else {
                allowance.observe(1.0, 1.0, 0.0);
            }
        }
        assert!(lost <= 0.012 * f64::from(passes), "{lost}");
        assert!(tries_late > 10, "they are tried again");
    }

    #[test]
    fn right_guesses_refill_it() {
        let mut allowance = Allowance::default();
        allowance.observe(1.0, 1.0, 0.0);
        while allowance.covers(0.5) {
            allowance.observe(1.5, 1.0, 0.0);
        }
        allowance.observe(1.5, 1.0, 4.0);
        assert!(allowance.covers(3.0));
    }
}

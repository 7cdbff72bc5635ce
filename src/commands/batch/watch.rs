//! A run on the terminal: one bar with records, tokens a second in and out, slots at work, and the time left.

use crate::batch::{Tally, Watch};
use crate::progress::Bar;
use crate::stderr::note;
use std::time::{Duration, Instant};

/// Speeds are those of this much time before.
const SPAN: Duration = Duration::from_secs(5);

/// The bar.
pub(super) struct Terminal {
    bar: Bar,
    slots: u32,
    /// When the span began, and the tokens read and written then.
    from: (Instant, u64, u64),
    /// Tokens a second in and out of the span before.
    speeds: Option<(f64, f64)>,
}

impl Terminal {
    /// `finished` of `total` records were there before.
    pub(super) fn new(total: u64, finished: u64, slots: u32) -> Self {
        let bar = Bar::narrow("records", total);
        bar.begin_at(finished);
        Self { bar, slots, from: (Instant::now(), 0, 0), speeds: None }
    }
}

impl Watch for Terminal {
    fn notice(&mut self, text: &str) {
        note(text);
    }

    fn step(&mut self, tally: &Tally, finished: u64) {
        let (began, read, written) = self.from;
        let elapsed = began.elapsed();
        let speed = |now: u64, then: u64| now.saturating_sub(then) as f64 / elapsed.as_secs_f64().max(1e-9);
        let now = (speed(tally.read, read), speed(tally.written, written));
        if elapsed >= SPAN {
            self.from = (Instant::now(), tally.read, tally.written);
            self.speeds = Some(now);
        }
        let (input, output) = self.speeds.unwrap_or(now);
        self.bar.set(finished);
        self.bar.message(format!("in {input:.0}, out {output:.0} tokens/s, slots {}/{}", tally.busy, self.slots));
    }
}

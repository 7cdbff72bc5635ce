//! How a run goes: on a terminal one bar with records, tokens a second in and out, slots at work, and the time left; where
//! there is none, such as in the log of a cluster, a line a minute.

use crate::batch::{RunObserver, RunStats};
use crate::progress::Bar;
use crate::stderr::{self, note};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Speeds of the bar are those of this much time before.
const SPAN: Duration = Duration::from_secs(5);
/// So often a line is written where there is no terminal; its speeds are those of this time.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// What shows how a run goes.
pub(super) struct RunProgress {
    /// `None`: there is no terminal.
    bar: Option<Bar>,
    total: u64,
    /// Finished records at the start.
    before: u64,
    slots: u32,
    started: Instant,
    /// When the span began, and the tokens read and written then.
    from: (Instant, u64, u64),
    /// Tokens a second in and out of the span before.
    speeds: Option<(f64, f64)>,
}

impl RunProgress {
    /// `finished` of `total` records were there before.
    pub(super) fn new(total: u64, finished: u64, slots: u32) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| Bar::narrow("records", total));
        if let Some(bar) = &bar {
            bar.begin_at(finished);
        }
        let now = Instant::now();
        Self { bar, total, before: finished, slots, started: now, from: (now, 0, 0), speeds: None }
    }

    /// The speeds since the span began.
    fn speeds(&self, tally: &RunStats, elapsed: Duration) -> (f64, f64) {
        let (_, read, written) = self.from;
        let speed = |now: u64, then: u64| now.saturating_sub(then) as f64 / elapsed.as_secs_f64().max(1e-9);
        (speed(tally.read, read), speed(tally.written, written))
    }
}

impl RunObserver for RunProgress {
    fn notice(&mut self, text: &str) {
        note(text);
    }

    fn step(&mut self, tally: &RunStats, finished: u64) {
        let elapsed = self.from.0.elapsed();
        let span = if self.bar.is_some() { SPAN } else { LINE_EVERY };
        if self.bar.is_none() && elapsed < span {
            return;
        }
        let now = self.speeds(tally, elapsed);
        if elapsed >= span {
            self.from = (Instant::now(), tally.read, tally.written);
            self.speeds = Some(now);
        }
        let (input, output) = self.speeds.unwrap_or(now);
        let speeds = format!("in {input:.0}, out {output:.0} tokens/s, slots {}/{}", tally.busy, self.slots);
        match &self.bar {
            Some(bar) => {
                bar.set(finished);
                bar.message(speeds);
            }
            None => {
                let left = left(self.total, self.before, finished, self.started.elapsed());
                stderr::line(&format!("{finished} of {} records, {speeds}{left}", self.total));
            }
        }
    }
}

/// The time that is left, at the speed so far; nothing before the first record.
fn left(total: u64, before: u64, finished: u64, elapsed: Duration) -> String {
    let done = finished.saturating_sub(before);
    if done == 0 {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * total.saturating_sub(finished) as f64;
    let minutes = (seconds / 60.0).ceil() as u64;
    match minutes {
        0..60 => format!(", about {minutes} min left"),
        _ => format!(", about {} h {:02} min left", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, left};

    #[test]
    fn the_time_left_is_that_of_this_run() {
        let minute = Duration::from_secs(60);
        assert_eq!(left(100, 0, 0, minute), "");
        assert_eq!(left(100, 40, 40, minute), "", "those of an earlier run took no time");
        assert_eq!(left(100, 40, 50, minute), ", about 5 min left");
        assert_eq!(left(1_000, 0, 10, minute), ", about 1 h 39 min left");
        assert_eq!(left(10, 0, 10, minute), ", about 0 min left");
        assert_eq!(left(10, 0, 11, minute), ", about 0 min left", "an input that shrank");
    }
}

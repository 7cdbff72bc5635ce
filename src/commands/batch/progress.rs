//! Shows the progress of a run. On a terminal: a bar with records, tokens per second of prompts and answers, slots in
//! use, and the time left. Without a terminal, such as in the log of a cluster: one line per minute.

use crate::batch::{RunObserver, RunStats};
use crate::progress::Bar;
use crate::stderr::{self, note};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Period of the average speed in the bar.
const SPAN: Duration = Duration::from_secs(5);
/// Time between two lines without a terminal. Each line has the average speed since the line before it.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// The progress display of a run.
pub(super) struct RunProgress {
    /// `None` without a terminal.
    bar: Option<Bar>,
    total: u64,
    /// Finished records at the start.
    before: u64,
    slots: u32,
    started: Instant,
    /// Start of the current span, and the prompt and generated tokens at that time.
    span_start: (Instant, u64, u64),
    /// Tokens per second of the last span: prompts, answers.
    speeds: Option<(f64, f64)>,
}

impl RunProgress {
    /// Starts the display. `finished` of `total` records were finished by earlier runs.
    pub(super) fn new(total: u64, finished: u64, slots: u32) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| Bar::narrow("records", total));
        if let Some(bar) = &bar {
            bar.begin_at(finished);
        }
        let now = Instant::now();
        Self { bar, total, before: finished, slots, started: now, span_start: (now, 0, 0), speeds: None }
    }

    /// Returns the tokens per second since the start of the span.
    fn speeds(&self, stats: &RunStats, elapsed: Duration) -> (f64, f64) {
        let (_, prefilled, generated) = self.span_start;
        let speed = |now: u64, then: u64| now.saturating_sub(then) as f64 / elapsed.as_secs_f64().max(1e-9);
        (speed(stats.prefilled, prefilled), speed(stats.generated, generated))
    }
}

impl RunObserver for RunProgress {
    fn note(&mut self, text: &str) {
        note(text);
    }

    fn step(&mut self, stats: &RunStats, finished: u64) {
        let elapsed = self.span_start.0.elapsed();
        let span = if self.bar.is_some() { SPAN } else { LINE_EVERY };
        if self.bar.is_none() && elapsed < span {
            return;
        }
        let now = self.speeds(stats, elapsed);
        if elapsed >= span {
            self.span_start = (Instant::now(), stats.prefilled, stats.generated);
            self.speeds = Some(now);
        }
        let (input, output) = self.speeds.unwrap_or(now);
        let speeds = format!("in {input:.0}, out {output:.0} tokens/s, slots {}/{}", stats.busy_slots, self.slots);
        match &self.bar {
            Some(bar) => {
                bar.set(finished);
                bar.message(speeds);
            }
            None => {
                let left = time_left(self.total, self.before, finished, self.started.elapsed());
                stderr::line(&format!("{finished} of {} records, {speeds}{left}", self.total));
            }
        }
    }
}

/// Formats the time left at the speed so far; empty before the first record.
fn time_left(total: u64, before: u64, finished: u64, elapsed: Duration) -> String {
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
    use super::{Duration, time_left};

    #[test]
    fn the_time_left_uses_only_this_runs_speed() {
        let minute = Duration::from_secs(60);
        assert_eq!(time_left(100, 0, 0, minute), "");
        assert_eq!(time_left(100, 40, 40, minute), "", "records of an earlier run do not count");
        assert_eq!(time_left(100, 40, 50, minute), ", about 5 min left");
        assert_eq!(time_left(1_000, 0, 10, minute), ", about 1 h 39 min left");
        assert_eq!(time_left(10, 0, 10, minute), ", about 0 min left");
        assert_eq!(time_left(10, 0, 11, minute), ", about 0 min left", "more finished than expected");
    }
}

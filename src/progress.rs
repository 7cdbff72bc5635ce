//! Progress bars: on stderr, only on a terminal, only for work that takes longer than a moment, and gone when it is done.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::OnceCell;
use std::time::{Duration, Instant};

/// Work that is done within this shows no bar: it would only flicker.
const DELAY: Duration = Duration::from_millis(400);

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Bytes, with the speed.
    Bytes,
    /// Things of this name.
    Count(&'static str),
}

/// One bar; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Progress {
    label: &'static str,
    unit: Unit,
    total: u64,
    began: Instant,
    bar: OnceCell<ProgressBar>,
}

impl Progress {
    /// A bar of `total` units.
    pub(crate) fn new(label: &'static str, unit: Unit, total: u64) -> Self {
        Self { label, unit, total, began: Instant::now(), bar: OnceCell::new() }
    }

    /// `done` units are done.
    pub(crate) fn set(&self, done: u64) {
        if self.began.elapsed() >= DELAY {
            self.bar.get_or_init(|| self.draw()).set_position(done);
        }
    }

    fn draw(&self) -> ProgressBar {
        // indicatif hides a bar on stderr when that is not a terminal.
        let bar = ProgressBar::new(self.total).with_message(self.label);
        let counts = match self.unit {
            Unit::Bytes => "{bytes}/{total_bytes} {bytes_per_sec}".to_owned(),
            Unit::Count(name) => format!("{{pos}}/{{len}} {name}"),
        };
        match ProgressStyle::with_template(&format!("{{msg}} [{{bar:30}}] {counts} {{eta}}")) {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

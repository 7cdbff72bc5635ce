//! Progress bars: the only module that names indicatif. Bars are drawn on stderr, and only when it is a terminal.

use crate::sanitize::one_line;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The bar that is being drawn: what else is written must stay above it.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Lets `write` write lines that stay above the bar, where one is drawn.
pub(crate) fn above(write: impl FnOnce()) {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A bar, or nothing where there is no terminal.
#[derive(Debug)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Counts bytes: shows the amount, the rate and the time left.
    pub(crate) fn bytes(label: &str, total: u64) -> Self {
        Self::new(label, total, "{bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left")
    }

    /// Counts things, such as tokens or records.
    pub(crate) fn items(label: &str, unit: &str, total: u64) -> Self {
        Self::new(label, total, &format!("{{human_pos}}/{{human_len}} {unit}  {{eta}} left"))
    }

    /// Counts things in little room, so that a message of some 35 characters is seen on a terminal of 80 columns.
    pub(crate) fn narrow(label: &str, total: u64) -> Self {
        Self::styled(label, total, "{prefix} [{bar:10}] {human_pos}/{human_len}  {eta} left  {wide_msg}")
    }

    fn new(label: &str, total: u64, counts: &str) -> Self {
        let template = format!("{{prefix:>12}} [{{bar:30}}] {{percent:>3}}%  {counts}  {{wide_msg}}");
        Self::styled(label, total, &template)
    }

    fn styled(label: &str, total: u64, template: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self(Some(bar))
    }

    /// `n` more are done.
    pub(crate) fn advance(&self, n: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(n);
        }
    }

    /// `n` are done in all.
    pub(crate) fn set(&self, n: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(n);
        }
    }

    /// `n` were done before: they do not count in the rate and the time left.
    pub(crate) fn begin_at(&self, n: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(n);
            bar.reset_eta();
        }
    }

    /// What is being worked on now.
    pub(crate) fn message(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(one_line(&text));
        }
    }

    /// Takes the bar off the screen, so that other lines can be written.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

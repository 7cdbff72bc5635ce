//! Progress bars: the only module that names indicatif. Bars are drawn on stderr, and only when it is a terminal.
//! [`Watch`] shows the library's work on one and passes Ctrl-C on to it.

use crate::error::one_line;
use crate::interrupt::Interrupt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

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
            bar.set_message(text);
        }
    }

    /// Lets `write` write lines that stay above the bar.
    pub(crate) fn above(&self, write: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar off the screen, so that other lines can be written.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A bar over the bytes that the library works through, and the way to stop it.
#[derive(Debug)]
pub(crate) struct Watch {
    bar: Bar,
    interrupt: Interrupt,
}

impl Watch {
    /// Watches work on `total` bytes.
    pub(crate) fn new(label: &str, total: u64, interrupt: &Interrupt) -> Self {
        Self { bar: Bar::bytes(label, total), interrupt: interrupt.clone() }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        self.bar.clear();
    }
}

impl tulu_quantize::Observer for Watch {
    fn advanced(&self, tensor: &str, bytes: u64) {
        self.bar.advance(bytes);
        self.bar.message(tensor.to_owned());
    }

    fn note(&self, text: &str) {
        self.bar.above(|| eprintln!("note: {}", one_line(text)));
    }

    fn finishing(&self) {
        self.bar.message("flushing to disk".to_owned());
    }

    fn cancelled(&self) -> bool {
        self.interrupt.asked().is_some()
    }
}

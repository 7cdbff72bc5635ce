//! Progress bars: the only module that names indicatif. Bars are drawn on stderr, and only when it is a terminal.

use crate::sanitize::one_line;
use crate::table::bytes;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a bar is redrawn while nothing advances, so that the time left keeps changing.
const TICK: Duration = Duration::from_millis(200);

/// The visible bar. Other output must stay above it.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Runs `write`, whose lines stay above the visible bar.
pub(crate) fn above(write: impl FnOnce()) {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A progress bar; `None` inside when stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Bar(Option<Drawn>);

#[derive(Debug)]
struct Drawn {
    bar: ProgressBar,
    message: Arc<Mutex<String>>,
}

/// The unit of a bar's amounts.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// Bytes, with the rate.
    Bytes,
    /// Items with this name.
    Items(&'static str),
    /// Items that the label already names, so that the message has more columns.
    Narrow,
}

impl Bar {
    /// Creates a bar that counts bytes and shows the amount, the rate and the time left.
    pub(crate) fn bytes(label: &str, total: u64) -> Self {
        Self::new(label, total, Unit::Bytes)
    }

    /// Creates a bar that counts items, such as tokens or records.
    pub(crate) fn items(label: &str, unit: &'static str, total: u64) -> Self {
        Self::new(label, total, Unit::Items(unit))
    }

    /// Creates a bar that counts items in few columns: a message of 35 characters fits on a terminal of 80 columns.
    pub(crate) fn narrow(label: &str, total: u64) -> Self {
        Self::new(label, total, Unit::Narrow)
    }

    fn new(label: &str, total: u64, unit: Unit) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        let message = Arc::<Mutex<String>>::default();
        let (name, shown) = (label.to_owned(), message.clone());
        let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("line", move |state: &ProgressState, out: &mut dyn Write| {
            let message = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let _ = out.write_str(&line(columns(), &Parts::of(&name, unit, state, message)));
        }));
        tick(&bar);
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self(Some(Drawn { bar, message }))
    }

    /// Advances by `n`.
    pub(crate) fn advance(&self, n: u64) {
        if let Some(Drawn { bar, .. }) = &self.0 {
            bar.inc(n);
        }
    }

    /// Advances to `n`.
    pub(crate) fn set(&self, n: u64) {
        if let Some(Drawn { bar, .. }) = &self.0 {
            bar.set_position(n);
        }
    }

    /// Starts at `n`. These items do not count for the rate and the time left.
    pub(crate) fn begin_at(&self, n: u64) {
        if let Some(Drawn { bar, .. }) = &self.0 {
            bar.set_position(n);
            bar.reset_eta();
        }
    }

    /// Sets the message: the current piece of work.
    pub(crate) fn message(&self, text: String) {
        if let Some(Drawn { message, .. }) = &self.0 {
            *message.lock().unwrap_or_else(PoisonError::into_inner) = one_line(&text);
        }
    }

    /// Removes the bar from the screen.
    pub(crate) fn clear(&self) {
        if let Some(Drawn { bar, .. }) = &self.0 {
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

/// Starts a thread that redraws `bar` until it is dropped. Without the thread, the bar is redrawn when it advances.
fn tick(bar: &ProgressBar) {
    let bar = bar.downgrade();
    let _ = std::thread::Builder::new().name("bar".to_owned()).spawn(move || {
        while let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
            bar.tick();
            drop(bar);
            std::thread::sleep(TICK);
        }
    });
}

/// Returns the columns of the terminal; 80 when they are unknown.
fn columns() -> usize {
    let size = console::Term::stderr().size_checked();
    size.map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// The texts that a bar shows.
struct Parts {
    label: String,
    /// The part that is done, 0 to 1.
    done: f64,
    percent: String,
    counts: String,
    rate: String,
    left: String,
    message: String,
}

impl Parts {
    fn of(label: &str, unit: Unit, state: &ProgressState, message: String) -> Self {
        let (at, total) = (state.pos(), state.len().unwrap_or(0));
        let percent = format!("{:>3.0}%", (f64::from(state.fraction()) * 100.0).floor());
        // Without progress there is no estimate.
        let left = if at == 0 { String::new() } else { format!("{:#} left", HumanDuration(state.eta())) };
        let (percent, counts, rate) = match unit {
            Unit::Bytes => (
                percent,
                format!("{}/{}", bytes(at), bytes(total)),
                if at == 0 { String::new() } else { format!("{}/s", bytes(state.per_sec() as u64)) },
            ),
            Unit::Items(name) => (percent, format!("{}/{} {name}", HumanCount(at), HumanCount(total)), String::new()),
            Unit::Narrow => (String::new(), format!("{}/{}", HumanCount(at), HumanCount(total)), String::new()),
        };
        Self { label: label.to_owned(), done: f64::from(state.fraction()), percent, counts, rate, left, message }
    }
}

/// Formats one line that leaves the last of `columns` free, so that no terminal wraps it. When it is too long, the rate
/// is dropped first, then the bar, the time left and the percentage; the message is cut to the remaining columns.
fn line(columns: usize, parts: &Parts) -> String {
    const BAR: usize = 10;
    let width = columns.saturating_sub(1);
    let mut room = width.saturating_sub(console::measure_text_width(&parts.label) + 1 + parts.counts.len());
    let mut fits = |text: &str, gap: usize| {
        let needs = text.len() + gap;
        let fits = !text.is_empty() && needs <= room;
        room -= if fits { needs } else { 0 };
        fits
    };
    let (percent, left) = (fits(&parts.percent, 2), fits(&parts.left, 2));
    let filled = "=".repeat((parts.done.clamp(0.0, 1.0) * BAR as f64) as usize);
    let drawn = format!(
        "[{filled}{}{}]",
        if filled.len() < BAR { ">" } else { "" },
        " ".repeat((BAR - filled.len()).max(1) - 1)
    );
    let (drawn, rate) = (fits(&drawn, 1).then_some(drawn), fits(&parts.rate, 2));
    let mut out = parts.label.clone();
    if let Some(drawn) = drawn {
        out += &format!(" {drawn}");
    }
    if percent {
        out += &format!(" {} ", parts.percent);
    }
    out += &format!(" {}", parts.counts);
    for (text, shown) in [(&parts.rate, rate), (&parts.left, left), (&parts.message, room > 8)] {
        if shown && !text.is_empty() {
            out += &format!("  {text}");
        }
    }
    if width == 0 { String::new() } else { console::truncate_str(&out, width, "…").into_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Parts, line};

    fn parts() -> Parts {
        Parts {
            label: "converting".to_owned(),
            done: 0.29,
            percent: " 29%".to_owned(),
            counts: "3.0 MB/11.0 MB".to_owned(),
            rate: "353.6 kB/s".to_owned(),
            left: "22s left".to_owned(),
            message: "model.layers.0.self_attn.q_proj.weight".to_owned(),
        }
    }

    #[test]
    fn a_bar_is_one_line_in_every_terminal() {
        for (columns, wanted) in [
            (
                120,
                "converting [==>       ]  29%  3.0 MB/11.0 MB  353.6 kB/s  22s left  model.layers.0.self_attn.q_proj.weight",
            ),
            (80, "converting [==>       ]  29%  3.0 MB/11.0 MB  353.6 kB/s  22s left  model.laye…"),
            (70, "converting [==>       ]  29%  3.0 MB/11.0 MB  353.6 kB/s  22s left"),
            (60, "converting [==>       ]  29%  3.0 MB/11.0 MB  22s left"),
            (50, "converting  29%  3.0 MB/11.0 MB  22s left"),
            (36, "converting  29%  3.0 MB/11.0 MB"),
            (28, "converting 3.0 MB/11.0 MB"),
            (16, "converting 3.0…"),
        ] {
            assert_eq!(line(columns, &parts()), wanted);
            assert!(console::measure_text_width(wanted) < columns);
        }
        for columns in 0..200 {
            assert!(console::measure_text_width(&line(columns, &parts())) <= columns.saturating_sub(1), "{columns}");
        }
        let whole = Parts { done: 1.0, message: "漢".repeat(90), ..parts() };
        assert!(line(80, &whole).contains("[==========]"), "{}", line(80, &whole));
        assert!(console::measure_text_width(&line(80, &whole)) <= 79);
    }
}

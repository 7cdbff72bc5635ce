//! The library's work as a user sees it: a bar, notes above it, and Ctrl-C passed on.

use crate::interrupt::Interrupt;
use crate::progress::Bar;
use crate::stderr;

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
        stderr::note(text);
    }

    fn finishing(&self) {
        self.bar.message("flushing to disk".to_owned());
    }

    fn cancelled(&self) -> bool {
        self.interrupt.asked().is_some()
    }
}

//! Connects the library's [`Observer`] to the terminal: a progress bar, notes above it, and Ctrl-C.

use crate::interrupt::Interrupt;
use crate::progress::Bar;
use crate::stderr;

/// A progress bar over the bytes that the library processes; stops the library after Ctrl-C.
#[derive(Debug)]
pub(crate) struct Watch {
    bar: Bar,
    interrupt: Interrupt,
}

impl Watch {
    /// Starts a bar of `total` bytes.
    pub(crate) fn new(label: &str, total: u64, interrupt: &Interrupt) -> Self {
        Self { bar: Bar::bytes(label, total), interrupt: interrupt.clone() }
    }

    /// Removes the bar from the screen.
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

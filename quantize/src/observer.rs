//! [`Observer`]: progress and cancellation. The caller implements it, for example with a progress bar.

/// Receives the events of a conversion or a check. Worker threads call it: it must be fast and must not panic.
pub trait Observer: Sync {
    /// Called when `bytes` more bytes of the source are done; they belong to the tensor with the GGUF name `tensor`.
    /// The name is empty for bytes that an earlier run has converted.
    fn advanced(&self, _tensor: &str, _bytes: u64) {}
    /// Called with a warning for the user, one sentence.
    fn note(&self, _text: &str) {}
    /// Called when everything is written, before the files are flushed to disk and renamed.
    fn finishing(&self) {}
    /// Called between chunks; `true` stops the work with [`crate::Code::Interrupted`]. [`crate::convert()`] then leaves
    /// no file; [`crate::convert_streaming`] keeps its partial files to resume from.
    fn cancelled(&self) -> bool {
        false
    }
}

/// An observer that ignores all events.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {}

//! Progress and cancellation: the caller implements [`Observer`], for example with a progress bar.

/// Receives the events of a conversion or a check. Worker threads call it: it must be fast and must not panic.
pub trait Observer: Sync {
    /// `bytes` more of the source are done; `tensor` is the GGUF name of their tensor.
    fn advanced(&self, _tensor: &str, _bytes: u64) {}
    /// A warning for the user, one sentence.
    fn note(&self, _text: &str) {}
    /// Everything is written: the files are now flushed to disk and renamed.
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

//! Progress and cancellation across the crate's border: the program draws a bar, this crate knows of none.

/// Watches a conversion. Called from worker threads: must be quick and must not panic.
pub trait Observer: Sync {
    /// `bytes` more of the source have been read, quantized and written; `tensor` is the GGUF name they belong to.
    fn advanced(&self, _tensor: &str, _bytes: u64) {}
    /// Something that a user should know but need not mend, in one sentence.
    fn note(&self, _text: &str) {}
    /// Everything is written; the files are being flushed to disk and given their names.
    fn finishing(&self) {}
    /// Asked between chunks; `true` stops the conversion with [`crate::Code::Interrupted`] and leaves no file.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {}

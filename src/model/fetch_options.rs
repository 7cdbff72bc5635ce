//! The user's choices about downloading and converting a model.

use std::num::NonZeroUsize;

/// How a model of the Hub is downloaded and converted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchOptions {
    /// Download threads.
    pub(crate) connections: NonZeroUsize,
    /// Store the checkpoint in the Hugging Face cache instead of converting it while it is downloaded.
    pub(crate) keep_checkpoint: bool,
    /// Ask the Hub for a newer revision, and convert again.
    pub(crate) refresh: bool,
    /// Do not ask before downloading.
    pub(crate) yes: bool,
}

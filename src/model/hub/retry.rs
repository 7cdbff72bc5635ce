//! Decides when a failed request is retried, and how long to wait before that.

use super::handle::Hub;
use super::http_error::RequestError;
use crate::error::Failure;
use std::time::Duration;

/// Longest Retry-After to wait for; if the server asks for more, the error is reported.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// Bytes after which the count of poor tries restarts. It limits a server that disconnects after every few bytes,
/// because any progress resets the count of failures.
const GOOD_PROGRESS: u64 = 64 << 10;

/// Tries allowed with poor progress, as a multiple of the tries allowed without any progress.
const POOR_TRIES: u32 = 8;

/// Counts failed tries of one request.
pub(super) struct Retries<'a> {
    hub: &'a Hub,
    /// Failures since the last byte.
    failed: u32,
    /// Failures since [`GOOD_PROGRESS`] bytes were received.
    poor: u32,
    /// Bytes received since then.
    received: u64,
}

impl<'a> Retries<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        Self { hub, failed: 0, poor: 0, received: 0 }
    }

    /// Counts the bytes that the last try received.
    pub(super) fn received(&mut self, bytes: u64) {
        self.received = self.received.saturating_add(bytes);
        if bytes > 0 {
            self.failed = 0;
        }
        if self.received >= GOOD_PROGRESS {
            (self.poor, self.received) = (0, 0);
        }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// The failure of the last try when no further one is allowed; `INTERRUPTED` when a signal asks to stop.
    pub(super) fn wait(&mut self, error: RequestError) -> Result<(), Failure> {
        self.hub.check_cancelled()?;
        let (failure, retry_after) = match error.redact(&self.hub.settings) {
            RequestError::Permanent(failure) => return Err(failure),
            RequestError::Transient(failure, retry_after) => (failure, retry_after),
        };
        (self.failed, self.poor) = (self.failed.saturating_add(1), self.poor.saturating_add(1));
        let tries = self.hub.settings.tries;
        if self.failed >= tries
            || self.poor >= tries.saturating_mul(POOR_TRIES)
            || retry_after.is_some_and(|wait| wait > MAX_WAIT)
        {
            return Err(failure);
        }
        let wait = retry_after.unwrap_or_else(|| Duration::from_millis(300) * 2_u32.pow(self.failed.min(6) - 1));
        if wait > Duration::from_secs(3) {
            self.hub.note_once(&failure.what, wait);
        }
        self.hub.pause(wait)
    }
}

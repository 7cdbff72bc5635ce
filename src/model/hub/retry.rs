//! When a failed request is tried again, and how long to wait before it.

use super::handle::Hub;
use super::http_error::RequestError;
use crate::error::Failure;
use std::time::Duration;

/// A server that asks for more patience than this is obeyed by the user, not by us.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// A server that cuts the connection after every byte brings something each time, and never all: so many bytes…
const PROGRESS: u64 = 64 << 10;

/// …have to arrive in so many times the tries that are made without any progress.
const POOR: u32 = 8;

/// Failures since something last arrived, and since enough did.
pub(super) struct Retries<'a> {
    hub: &'a Hub,
    failed: u32,
    poor: u32,
    arrived: u64,
}

impl<'a> Retries<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        Self { hub, failed: 0, poor: 0, arrived: 0 }
    }

    /// So many bytes arrived by the last try.
    pub(super) fn arrived(&mut self, bytes: u64) {
        self.arrived = self.arrived.saturating_add(bytes);
        if bytes > 0 {
            self.failed = 0;
        }
        if self.arrived >= PROGRESS {
            (self.poor, self.arrived) = (0, 0);
        }
    }

    /// Waits before the next try; the failure itself when it was the last, or when somebody asked to stop.
    pub(super) fn again(&mut self, trouble: RequestError) -> Result<(), Failure> {
        self.hub.check_cancelled()?;
        let (failure, asked) = match trouble.redact(&self.hub.settings) {
            RequestError::Permanent(failure) => return Err(failure),
            RequestError::Transient(failure, asked) => (failure, asked),
        };
        (self.failed, self.poor) = (self.failed.saturating_add(1), self.poor.saturating_add(1));
        let tries = self.hub.settings.tries;
        if self.failed >= tries || self.poor >= tries.saturating_mul(POOR) || asked.is_some_and(|wait| wait > MAX_WAIT)
        {
            return Err(failure);
        }
        let wait = asked.unwrap_or_else(|| Duration::from_millis(300) * 2_u32.pow(self.failed.min(6) - 1));
        if wait > Duration::from_secs(3) {
            self.hub.note_once(&failure.what, wait);
        }
        self.hub.pause(wait)
    }
}

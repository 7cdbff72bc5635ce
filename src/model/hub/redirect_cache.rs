//! Remembers where the Hub redirected requests for files, so that each segment needs one request instead of two.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::Uri;

/// How long a redirect is reused; its signature is valid for an hour.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The last redirect of each URL.
#[derive(Default)]
pub(super) struct RedirectCache(Mutex<HashMap<String, (Uri, Instant)>>);

impl RedirectCache {
    /// Returns the target for `url`, if it is still valid.
    pub(super) fn get(&self, url: &Uri) -> Option<Uri> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&url.to_string()).filter(|(_, since)| since.elapsed() < LIFETIME).map(|(to, _)| to.clone())
    }

    /// Records the target for `url`; `None` forgets it.
    pub(super) fn set(&self, url: &Uri, to: Option<&Uri>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match to {
            Some(to) => known.insert(url.to_string(), (to.clone(), Instant::now())),
            None => known.remove(&url.to_string()),
        };
    }
}

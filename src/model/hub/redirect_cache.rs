//! Where the Hub last redirected the request for a file.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::Uri;

/// How long the address that the Hub redirected to is used again; its signature holds for an hour.
const ADDRESS_LIFE: Duration = Duration::from_secs(10 * 60);

/// Where the Hub redirected to, for each file.
#[derive(Default)]
pub(super) struct RedirectCache(Mutex<HashMap<String, (Uri, Instant)>>);

impl RedirectCache {
    pub(super) fn of(&self, url: &Uri) -> Option<Uri> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&url.to_string()).filter(|(_, since)| since.elapsed() < ADDRESS_LIFE).map(|(to, _)| to.clone())
    }

    pub(super) fn remember(&self, url: &Uri, to: Option<&Uri>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match to {
            Some(to) => known.insert(url.to_string(), (to.clone(), Instant::now())),
            None => known.remove(&url.to_string()),
        };
    }
}

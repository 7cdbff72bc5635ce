//! The handle on the Hub: settings, connections, and the request to stop. Requests are in `model_info.rs` and
//! `range_fetch.rs`.

use super::client::Client;
use super::env::HubSettings;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::model::stopped::stopped;
use crate::stderr;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiting thread checks for a request to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The Hub as the environment describes it. Cheap to clone, and shared by threads.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(super) settings: Arc<HubSettings>,
    pub(super) client: Arc<Client>,
    pub(super) interrupt: Interrupt,
    /// The last note about waiting, and the time until which it is not repeated.
    last_note: Arc<Mutex<Option<(String, Instant)>>>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Hub {
    /// Reads the environment; sends no request.
    pub(crate) fn from_env(interrupt: &Interrupt) -> Result<Self, Failure> {
        let settings = Arc::new(HubSettings::from_env()?);
        if settings.sends_secret_unencrypted() && !settings.offline {
            let endpoint = &settings.endpoint;
            stderr::note(&format!("the token is sent to {endpoint} without encryption; use https in HF_ENDPOINT"));
        }
        let client = Arc::new(Client::new(&settings)?);
        // A blocking read cannot check for a request to stop; closing its socket ends it.
        let (watched, asked) = (Arc::downgrade(&client), interrupt.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(POLL_INTERVAL);
                let Some(client) = watched.upgrade() else { return };
                if asked.asked().is_some() {
                    return client.shutdown();
                }
            }
        });
        Ok(Self { settings, client, interrupt: interrupt.clone(), last_note: Arc::default() })
    }

    /// Returns the settings.
    pub(crate) fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// Returns an error if work should stop.
    ///
    /// # Errors
    /// `INTERRUPTED` when a signal asked to stop.
    pub(crate) fn check_cancelled(&self) -> Result<(), Failure> {
        match self.interrupt.asked() {
            None => Ok(()),
            Some(exit) => Err(stopped(exit)),
        }
    }

    /// Prints a note about waiting before a retry. It is printed once, even if several connections wait.
    pub(super) fn note_once(&self, what: &str, wait: Duration) {
        let mut last = self.last_note.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(known, until)| known == what && Instant::now() < *until) {
            return;
        }
        *last = Some((what.to_owned(), Instant::now() + wait));
        stderr::note(&format!("{what}; trying again in {} s", wait.as_secs()));
    }

    /// Sleeps for `time`; ends early with an error when a signal asks to stop.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            self.check_cancelled()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }
}

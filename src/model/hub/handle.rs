//! The handle on the Hub: settings, connections, and the request to stop. Requests are in `model_info.rs` and `transfer.rs`.

use super::client::Client;
use super::env::HubSettings;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::model::stopped::stopped;
use crate::stderr;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiting thread looks whether somebody asked to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The Hub as the environment describes it. Cheap to clone, and shared by threads.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(super) settings: Arc<HubSettings>,
    pub(super) client: Arc<Client>,
    pub(super) interrupt: Interrupt,
    /// What was said last, and how long it holds.
    said: Arc<Mutex<Option<(String, Instant)>>>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Hub {
    /// Reads the environment; nothing is asked of the network yet.
    pub(crate) fn from_env(interrupt: &Interrupt) -> Result<Self, Failure> {
        let settings = Arc::new(HubSettings::from_env()?);
        if settings.sends_secret_unencrypted() && !settings.offline {
            let endpoint = &settings.endpoint;
            stderr::note(&format!("the token goes to {endpoint} without encryption: give HF_ENDPOINT as https"));
        }
        let client = Arc::new(Client::new(&settings)?);
        // A read that waits for a silent server does not look at the interrupt: its socket is shut instead.
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
        Ok(Self { settings, client, interrupt: interrupt.clone(), said: Arc::default() })
    }

    /// What the environment says.
    pub(crate) fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// [`Failure::interrupted`] when somebody asked to stop.
    pub(crate) fn check_cancelled(&self) -> Result<(), Failure> {
        match self.interrupt.asked() {
            None => Ok(()),
            Some(exit) => Err(stopped(exit)),
        }
    }

    /// Says that something is waited for: once, however many connections wait for it.
    pub(super) fn note_once(&self, what: &str, wait: Duration) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref().is_some_and(|(known, until)| known == what && Instant::now() < *until) {
            return;
        }
        *said = Some((what.to_owned(), Instant::now() + wait));
        stderr::note(&format!("{what}; trying again in {} s", wait.as_secs()));
    }

    /// Sleeps, but no longer than somebody asks to stop.
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

//! The Hugging Face Hub: what a repository holds, ranges of its files, and whole files in the cache that is shared with
//! `huggingface_hub`. Names of models are `registry/`'s, conversion is `fetch.rs`'s.
//!
//! The transfer is our own, on `ureq` (blocking, rustls). hf-hub 1.0.0 (its download.rs, 550 to 576) asks for the file,
//! truncates `blobs/ETAG.incomplete` and renames it: a cut download begins anew, the page of an error becomes the blob, and
//! no length or sha256 is compared; it does not read `HF_HUB_OFFLINE`, a transfer cannot be cancelled, and it brings 148
//! crates along (tokio, hyper, Xet). hf-hub 0.5.0 names a file before it is hashed and appends a 200 where a range was
//! asked for. What is needed of the Hub is two requests: a listing, and a range of a file.
//!
//! What holds here, whatever a server does:
//! - a byte counts only under the status, range and length that were asked for, and a file appears in the cache only when
//!   its sha256 (git's sha1 for small files) is the listed one;
//! - the token goes to the endpoint and nowhere else, redirects are followed by hand, and nothing prints it;
//! - what has arrived stays: a cut, Ctrl-C or a kill costs what had not been recorded, not the file.

mod cached;
mod client;
mod download;
mod hash;
mod listing;
mod lock;
mod partial;
mod redirect;
pub(crate) mod refs;
mod refused;
mod repo;
mod secrets;
mod settings;
mod snapshot;
mod transfer;

pub(crate) use cached::{CacheDir, missing};
pub(crate) use hash::FileHash;
pub(crate) use listing::{Listing, Needed};
pub(crate) use redirect::decode;
pub(crate) use repo::{RepoId, is_hex};
pub(crate) use settings::{Settings, endpoint_place};
pub(crate) use snapshot::room;

use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::model::stopped;
use crate::stderr;
use client::Client;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiting thread looks whether somebody asked to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// The Hub as the environment describes it. Cheap to clone, and shared by threads.
#[derive(Clone)]
pub(crate) struct Hub {
    settings: Arc<Settings>,
    client: Arc<Client>,
    interrupt: Interrupt,
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
        let settings = Arc::new(Settings::from_env()?);
        if settings.in_the_clear() && !settings.offline {
            let endpoint = &settings.endpoint;
            stderr::note(&format!("the token goes to {endpoint} without encryption: give HF_ENDPOINT as https"));
        }
        let client = Arc::new(Client::new(&settings)?);
        // A read that waits for a silent server does not look at the interrupt: its socket is shut instead.
        let (watched, asked) = (Arc::downgrade(&client), interrupt.clone());
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(GLANCE);
                let Some(client) = watched.upgrade() else { return };
                if asked.asked().is_some() {
                    return client.shutdown();
                }
            }
        });
        Ok(Self { settings, client, interrupt: interrupt.clone(), said: Arc::default() })
    }

    /// What the environment says.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// [`Failure::interrupted`] when somebody asked to stop.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        match self.interrupt.asked() {
            None => Ok(()),
            Some(exit) => Err(stopped(exit)),
        }
    }

    /// Says that something is waited for: once, however many connections wait for it.
    fn say_once(&self, what: &str, wait: Duration) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref().is_some_and(|(known, until)| known == what && Instant::now() < *until) {
            return;
        }
        *said = Some((what.to_owned(), Instant::now() + wait));
        stderr::note(&format!("{what}; trying again in {} s", wait.as_secs()));
    }

    /// Sleeps, but no longer than somebody asks to stop.
    fn pause(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            self.go_on()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }
}

//! The Hugging Face Hub: what a repository holds, ranges of its files, and whole files in the cache that is shared with
//! `huggingface_hub`. Names of models are `registry.rs`'s, conversion is `fetch.rs`'s.
//!
//! The transfer is our own, on `ureq` (blocking, rustls): hf-hub 1.0 begins a cut download anew, streams the body of an
//! error into the cache without looking at its status, ignores `HF_HUB_OFFLINE`, and brings an async runtime and a second
//! transfer stack along. What is needed of the Hub is two requests: a listing, and a range of a file.
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
mod refused;
mod repo;
mod settings;
mod snapshot;
mod transfer;

pub(crate) use cached::{CacheDir, missing, replace};
pub(crate) use hash::FileHash;
pub(crate) use listing::{Listing, Needed};
pub(crate) use repo::RepoId;
pub(crate) use settings::Settings;
pub(crate) use snapshot::room;

use crate::error::Failure;
use crate::interrupt::Interrupt;
use client::Client;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a waiting thread looks whether somebody asked to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// The Hub as the environment describes it. Cheap to clone, and shared by threads.
#[derive(Clone)]
pub(crate) struct Hub {
    settings: Arc<Settings>,
    client: Arc<Client>,
    interrupt: Interrupt,
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
        Ok(Self { settings, client, interrupt: interrupt.clone() })
    }

    /// What the environment says.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// [`Failure::interrupted`] when somebody asked to stop.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        match self.interrupt.asked() {
            None => Ok(()),
            Some(exit) => Err(Failure { exit, ..Failure::interrupted() }),
        }
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

//! What the threads of the server share, and starting a job.

use super::body::BodyLimits;
use super::config::ServeConfig;
use super::error::ApiError;
use super::job::{EVENTS_MAX, Job, Lost, Update};
use super::prepare::RequestDefaults;
use super::prompt_thread::Task;
use super::request_log::LoggedRequest;
use super::stats::{Stats, add};
use crate::decode::{Answer, Event, Request, Usage};
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};

/// Facts about the loaded model, for responses.
#[derive(Clone, Debug)]
pub(super) struct ModelFacts {
    /// Its name in responses.
    pub(super) name: String,
    /// `system_fingerprint`: identifies the model file and the program.
    pub(super) fingerprint: String,
    /// When the file was made, in seconds since 1970.
    pub(super) created: u64,
    /// Context size in tokens.
    pub(super) n_ctx: usize,
    /// Context size that it was trained for, in tokens.
    pub(super) n_ctx_train: u32,
    /// Slots.
    pub(super) n_slots: usize,
    /// Vocabulary size.
    pub(super) n_vocab: i32,
    /// Number of parameters.
    pub(super) n_params: u64,
    /// Path of the file.
    pub(super) file: String,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// SHA-256 of its metadata and of samples of its weights (hexadecimal).
    pub(super) digest: String,
    /// Its quantization mix, such as `Q4_K_M`.
    pub(super) file_type: &'static str,
    /// The chat template in the file.
    pub(super) template: String,
}

/// The server, as its connections see it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: ServeConfig,
    pub(super) model: ModelFacts,
    pub(super) defaults: RequestDefaults,
    /// To the prompt thread.
    pub(super) tasks: Sender<Task>,
    /// To the engine.
    pub(super) jobs: Sender<Job>,
    /// Places for jobs: one for each slot, and those of the queue.
    pub(super) places: Arc<Semaphore>,
    pub(super) bodies: BodyLimits,
    pub(super) stats: Arc<Stats>,
}

/// The events of a job that has a slot. Dropping it cancels the job.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) updates: Receiver<Update>,
    pub(super) counts: Arc<TokenCounts>,
    logged: Option<LoggedRequest>,
}

/// Tokens of a response, for the access log.
#[derive(Debug, Default)]
pub(super) struct TokenCounts {
    pub(super) prompt: AtomicU64,
    pub(super) cached: AtomicU64,
    pub(super) completion: AtomicU64,
}

impl TokenCounts {
    /// Adds those of an answer.
    pub(super) fn add(&self, usage: &Usage) {
        add(&self.prompt, usage.prompt_tokens as u64);
        add(&self.cached, usage.cached_tokens as u64);
        add(&self.completion, usage.completion_tokens as u64);
    }
}

impl Server {
    /// Sends a job to the engine, and waits until it has a slot.
    pub(super) async fn start(
        &self,
        requests: VecDeque<Request>,
        logged: Option<LoggedRequest>,
    ) -> Result<Answering, ApiError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            add(&self.stats.refused, 1);
            ApiError::unavailable("queue_full", "all slots are busy and the queue is full; try again later")
        })?;
        let (updates, mut receiver) = channel(EVENTS_MAX);
        let deadline = self.config.request_timeout.map(|timeout| Instant::now() + timeout);
        self.jobs.send(Job { requests, updates, deadline, _place: place }).map_err(|_| lost(Lost::Stopped))?;
        match receiver.recv().await {
            Some(Update::Started) => Ok(Answering { updates: receiver, counts: Arc::default(), logged }),
            Some(Update::Failed(why)) => Err(lost(why)),
            Some(Update::Event(..)) | None => Err(lost(Lost::Stopped)),
        }
    }
}

impl Answering {
    /// Counts and logs an answer.
    pub(super) fn finished(&mut self, index: usize, answer: &Answer) {
        self.counts.add(&answer.usage);
        if let Some(logged) = &mut self.logged {
            logged.add(index, answer);
        }
    }

    /// Waits for all `n` answers.
    pub(super) async fn collect(mut self, n: usize) -> Result<Vec<Answer>, ApiError> {
        let mut answers: Vec<Option<Answer>> = (0..n).map(|_| None).collect();
        while let Some(update) = self.updates.recv().await {
            match update {
                Update::Event(index, Event::Finished(answer)) => {
                    self.finished(index, &answer);
                    if let Some(place) = answers.get_mut(index) {
                        *place = Some(answer);
                    }
                }
                Update::Event(..) | Update::Started => {}
                Update::Failed(why) => return Err(lost(why)),
            }
        }
        answers.into_iter().collect::<Option<Vec<Answer>>>().ok_or_else(|| lost(Lost::Stopped))
    }
}

/// Returns the error of a job that ended without an answer.
pub(super) fn lost(why: Lost) -> ApiError {
    match why {
        Lost::Deadline => ApiError::unavailable("timeout", "the request was not finished in time (--request-timeout)"),
        Lost::Stopped => ApiError::unavailable("stopping", "the server stops"),
    }
}

/// Returns a new id for a response.
pub(super) fn new_id(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(count);
    format!("{prefix}-{:016x}{count:08x}", hasher.finish())
}

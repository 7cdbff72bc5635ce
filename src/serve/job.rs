//! A request on its way through the server: from an HTTP connection to the engine, and its events on the way back.

use crate::decode::{Event, Request};
use std::collections::VecDeque;
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;

/// Events of a job that may wait for a slow reader. With more, the job is cancelled, so that no reader holds a slot. An
/// answer has about one event for each token.
pub(super) const EVENTS_MAX: usize = 8192;

/// Requests of the decoder that belong to one HTTP request.
pub(super) struct Job {
    /// One for each answer to compute; the engine takes them from the front.
    pub(super) requests: VecDeque<Request>,
    /// Receives the events. If its receiver is gone, the client is gone.
    pub(super) updates: Sender<Update>,
    /// When the job is given up.
    pub(super) deadline: Option<Instant>,
    /// Its place in the queue, held until the engine has finished it.
    pub(super) _place: OwnedSemaphorePermit,
}

/// What happened to a job.
#[derive(Debug)]
pub(super) enum Update {
    /// The first of its requests has a slot.
    Started,
    /// An event of the request with this index.
    Event(usize, Event),
    /// The job ended without an answer.
    Failed(Lost),
}

/// Why a job ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Its deadline passed.
    Deadline,
    /// The server stops, or its engine failed.
    Stopped,
}

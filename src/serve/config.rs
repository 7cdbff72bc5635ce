//! The checked settings of the server. The flags are in `commands/serve.rs`.

use super::access::Access;
use super::request_log::RequestLog;
use super::saved_prompts::CacheSettings;
use crate::engine::Sampling;
use std::time::Duration;

/// Settings of the server.
#[derive(Debug)]
pub(crate) struct ServeConfig {
    /// Who may send requests.
    pub(crate) access: Access,
    /// Name of the model in responses.
    pub(crate) model_name: String,
    /// Requests that may wait for a slot.
    pub(crate) queue: usize,
    /// Time after which a request is given up; `None`: never.
    pub(crate) request_timeout: Option<Duration>,
    /// Time for the running answers after SIGTERM or Ctrl-C.
    pub(crate) drain_timeout: Duration,
    /// How tokens are chosen for requests that do not set it.
    pub(crate) sampling: Sampling,
    /// The seed of requests that have none; `None`: a new one for each.
    pub(crate) seed: Option<u32>,
    /// Maximum tokens of an answer for requests that do not set it; `u32::MAX`: until the context is full.
    pub(crate) max_tokens: u32,
    /// Print one line for each request.
    pub(crate) access_log: bool,
    /// Where requests and answers are written.
    pub(crate) request_log: Option<RequestLog>,
    /// Where the KV cache is kept over restarts.
    pub(crate) cache: Option<CacheSettings>,
}

//! Turns the body of a request into requests of the decoder.

use super::error::ApiError;
use super::prompt_thread::PromptTools;
use crate::api::{self, Body, Endpoint, Refusal, Seed};
use crate::decode::Request;
use crate::engine::{Sampling, random_seed};
use crate::error::{Code, Failure};
use serde_json::{Map, Value};
use std::collections::VecDeque;

/// Settings of requests that do not set them.
#[derive(Clone, Debug)]
pub(super) struct RequestDefaults {
    /// How tokens are chosen.
    pub(super) sampling: Sampling,
    /// The seed; `None`: a new one for each request.
    pub(super) seed: Option<u32>,
    /// Maximum tokens of an answer.
    pub(super) max_tokens: u32,
}

/// Requests of the decoder, and the shape of the response.
#[derive(Debug)]
pub(super) struct Prepared {
    /// `n` for each prompt.
    pub(super) requests: VecDeque<Request>,
    /// Answers to compute for each prompt.
    pub(super) n: usize,
    /// How many times each answer is in the response. Greedy answers to one prompt are equal, so one is computed.
    pub(super) copies: usize,
    /// How the answer is streamed; `None`: in one piece.
    pub(super) stream: Option<StreamOptions>,
    /// Whether answers may call functions.
    pub(super) calls: bool,
}

/// `stream_options`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamOptions {
    /// Send the usage at the end.
    pub(super) include_usage: bool,
}

/// Parses the fields of a body, renders its prompts and tokenizes them.
pub(super) fn prepare(
    tools: &PromptTools<'_>,
    mut fields: Map<String, Value>,
    endpoint: Endpoint,
    defaults: &RequestDefaults,
) -> Result<Prepared, ApiError> {
    let stream = stream_options(&mut fields)?;
    let body = Body::parse(fields, endpoint)?;
    prepare_body(tools, &body, stream, defaults)
}

/// Renders and tokenizes the prompts of a parsed body.
pub(super) fn prepare_body(
    tools: &PromptTools<'_>,
    body: &Body,
    stream: Option<StreamOptions>,
    defaults: &RequestDefaults,
) -> Result<Prepared, ApiError> {
    let options = &body.options;
    let seed = match options.seed {
        Seed::Given(seed) => seed,
        Seed::Own | Seed::Shared => defaults.seed.unwrap_or_else(random_seed),
    };
    let n = options.n.unwrap_or(1) as usize;
    let greedy = api::sampling(options, &defaults.sampling, seed).is_greedy();
    let (n, copies) = if greedy { (1, n) } else { (n, 1) };
    let refused = |failure: Failure| ApiError::from(Refusal::from_failure(&failure, tools.largest));
    let mut requests = VecDeque::new();
    for prompt in &body.prompts {
        for sample in 0..n as u32 {
            let sampling = api::sampling(options, &defaults.sampling, seed.wrapping_add(sample) % u32::MAX);
            let made = api::decode_request(prompt, options, sampling, defaults.max_tokens, &tools.prompts, tools.n_ctx);
            let (request, _) = made.map_err(refused)?;
            check_length(&request, tools.n_ctx).map_err(refused)?;
            requests.push_back(request);
        }
    }
    Ok(Prepared { requests, n, copies, stream, calls: options.calls.is_some() })
}

/// Refuses a prompt that leaves no token for the answer, or that is empty, before the response begins.
fn check_length(request: &Request, n_ctx: usize) -> Result<(), Failure> {
    let n = request.ids.len();
    if n == 0 {
        return Err(Failure::input(Code::Request, "the prompt is empty", "give a text"));
    }
    if n >= n_ctx {
        let what = format!("the prompt has {n} tokens; the context is {n_ctx} tokens, including the answer");
        return Err(Failure::input(Code::ContextLength, what, "shorten the prompt, or give a larger -c"));
    }
    Ok(())
}

/// Takes `stream` and `stream_options` out of a body.
fn stream_options(fields: &mut Map<String, Value>) -> Result<Option<StreamOptions>, Refusal> {
    let wrong = |param: &str, why: &str| Refusal::of("invalid_parameter", param, why);
    let stream = match fields.shift_remove("stream") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(stream)) => stream,
        Some(_) => return Err(wrong("stream", "must be true or false")),
    };
    let mut options = StreamOptions::default();
    match fields.shift_remove("stream_options") {
        None | Some(Value::Null) => {}
        Some(_) if !stream => return Err(wrong("stream_options", "needs \"stream\": true")),
        Some(Value::Object(given)) => {
            for (name, value) in &given {
                match (name.as_str(), value) {
                    ("include_usage", Value::Bool(wanted)) => options.include_usage = *wanted,
                    // Padding against an observer of the length of packets; a server on this machine needs none.
                    ("include_obfuscation", Value::Bool(_)) | (_, Value::Null) => {}
                    _ => return Err(wrong("stream_options", "may have \"include_usage\": true or false")),
                }
            }
        }
        Some(_) => return Err(wrong("stream_options", "must be an object")),
    }
    Ok(stream.then_some(options))
}

//! `/v1/chat/completions` and `/v1/completions`.

use super::completion_stream::CompletionStream;
use super::error::{ApiError, Face, json_response};
use super::event_body::EventBody;
use super::prepare::{Prepared, prepare};
use super::prompt_thread::run_task;
use super::response_head::{ResponseHead, TotalUsage};
use super::server::{Server, new_id};
use crate::api::{Endpoint, chat_choice, text_choice};
use crate::clock;
use crate::decode::Answer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers `/v1/chat/completions`.
pub(super) async fn chat(State(server): State<Arc<Server>>, request: Request) -> Response {
    respond(&server, request, Endpoint::Chat).await
}

/// Answers `/v1/completions`.
pub(super) async fn text(State(server): State<Arc<Server>>, request: Request) -> Response {
    respond(&server, request, Endpoint::Text).await
}

async fn respond(server: &Server, request: Request, endpoint: Endpoint) -> Response {
    answer(server, request, endpoint).await.unwrap_or_else(|error| error.response(Face::OpenAi))
}

async fn answer(server: &Server, request: Request, endpoint: Endpoint) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = server.bodies.read(&parts, body).await?;
    let logged = server.config.request_log.as_ref().map(|log| log.begin(&parts, body.bytes()));
    let defaults = server.defaults.clone();
    let prepared = run_task(&server.tasks, move |tools| {
        let fields = body.object()?;
        prepare(tools, fields, endpoint, &defaults)
    });
    let Prepared { requests, n, copies, stream, calls } = prepared.await??;
    let n_requests = requests.len();
    let answering = server.start(requests, logged).await?;
    let head = ResponseHead {
        id: new_id(if endpoint == Endpoint::Chat { "chatcmpl" } else { "cmpl" }),
        created: clock::now() as u64,
        model: server.model.name.clone(),
        fingerprint: server.model.fingerprint.clone(),
    };
    let counts = answering.counts.clone();
    let mut response = match stream {
        Some(options) => {
            let format = CompletionStream::new(head, endpoint, n_requests, (n, copies), options.include_usage);
            let format = if calls { format.with_calls() } else { format };
            event_stream(Body::new(EventBody::new(answering, n_requests, format)))
        }
        None => {
            let answers = answering.collect(n_requests).await?;
            json_response(StatusCode::OK, &whole(&head, endpoint, &answers, (n, copies), calls))
        }
    };
    response.extensions_mut().insert(counts);
    Ok(response)
}

/// Returns the response in one piece. `n`, `copies` and `calls`: see [`Prepared`].
fn whole(
    head: &ResponseHead,
    endpoint: Endpoint,
    answers: &[Answer],
    (n, copies): (usize, usize),
    calls: bool,
) -> Value {
    let mut call_id = || new_id("call");
    let mut choice = |index: usize, answer: &Answer| match endpoint {
        Endpoint::Chat => chat_choice(index, answer, calls.then_some(&mut call_id)),
        Endpoint::Text => text_choice(index, answer),
    };
    let object = match endpoint {
        Endpoint::Chat => "chat.completion",
        Endpoint::Text => "text_completion",
    };
    let mut usage = TotalUsage::default();
    answers.iter().enumerate().for_each(|(index, answer)| usage.add(answer, index, n, copies));
    let copied = answers.iter().flat_map(|answer| std::iter::repeat_n(answer, copies));
    json!({
        "id": head.id,
        "object": object,
        "created": head.created,
        "model": head.model,
        "choices": copied.enumerate().map(|(index, answer)| choice(index, answer)).collect::<Vec<_>>(),
        "usage": usage.json(),
        "system_fingerprint": head.fingerprint,
    })
}

/// Returns a response of server-sent events.
fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx then passes every event on at once.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

//! `/api/chat` and `/api/generate`.

use super::lines::{JsonLines, TextField};
use super::request::{self, Translated};
use crate::api::{Body as ApiBody, Refusal};
use crate::serve::error::{ApiError, Face, json_response};
use crate::serve::event_body::EventBody;
use crate::serve::prepare::{Prepared, StreamOptions, prepare_body};
use crate::serve::prompt_thread::run_task;
use crate::serve::server::Server;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Translates a body.
type Translate = fn(Map<String, Value>) -> Result<Translated, Refusal>;

/// Answers `/api/chat`.
pub(in crate::serve) async fn chat(State(server): State<Arc<Server>>, request: Request) -> Response {
    let answered = answer(&server, request, TextField::Message, request::chat).await;
    answered.unwrap_or_else(|error| error.response(Face::Ollama))
}

/// Answers `/api/generate`.
pub(in crate::serve) async fn generate(State(server): State<Arc<Server>>, request: Request) -> Response {
    let answered = answer(&server, request, TextField::Response, request::generate).await;
    answered.unwrap_or_else(|error| error.response(Face::Ollama))
}

async fn answer(
    server: &Server,
    request: Request,
    field: TextField,
    translate: Translate,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = server.bodies.read(&parts, body).await?;
    let logged = server.config.request_log.as_ref().map(|log| log.begin(&parts, body.bytes()));
    let defaults = server.defaults.clone();
    let prepared = run_task(&server.tasks, move |tools| -> Result<Option<Prepared>, ApiError> {
        let Translated { fields, endpoint, stream, empty } = translate(body.object()?)?;
        if empty {
            return Ok(None);
        }
        let body = ApiBody::parse(fields, endpoint)?;
        prepare_body(tools, &body, stream.then(StreamOptions::default), &defaults).map(Some)
    });
    let lines = JsonLines::new(server.model.name.clone(), field);
    let Some(Prepared { requests, stream, calls, .. }) = prepared.await?? else {
        return Ok(json_response(StatusCode::OK, &lines.loaded()));
    };
    let lines = if calls { lines.with_calls() } else { lines };
    let answering = server.start(requests, logged).await?;
    let counts = answering.counts.clone();
    let mut response = match stream {
        Some(_) => {
            let mut response = Response::new(Body::new(EventBody::new(answering, 1, lines)));
            let kind = HeaderValue::from_static("application/x-ndjson");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        None => {
            let answers = answering.collect(1).await?;
            let answer = answers.first().ok_or_else(|| ApiError::unavailable("stopping", "the server stops"))?;
            json_response(StatusCode::OK, &lines.whole(answer))
        }
    };
    response.extensions_mut().insert(counts);
    Ok(response)
}

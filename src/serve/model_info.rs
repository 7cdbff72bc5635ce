//! `/v1/models` and `/health`, and endpoints that this server does not have.

use super::error::{ApiError, Face, json_response};
use super::server::Server;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tulu_quantize::hex;

/// Lists the model.
pub(super) async fn list(State(server): State<Arc<Server>>) -> Response {
    json_response(StatusCode::OK, &json!({"object": "list", "data": [entry(&server)]}))
}

/// Describes the model `name`.
pub(super) async fn one(State(server): State<Arc<Server>>, Path(name): Path<String>) -> Response {
    if name == server.model.name {
        return json_response(StatusCode::OK, &entry(&server));
    }
    let message = format!("this server has the model '{}' only", server.model.name);
    ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).response(Face::OpenAi)
}

fn entry(server: &Server) -> Value {
    let model = &server.model;
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "tulu-quant",
        // vLLM's name of the context size.
        "max_model_len": model.n_ctx,
        // The names of llama-server.
        "meta": {
            "n_vocab": model.n_vocab,
            "n_ctx_train": model.n_ctx_train,
            "n_params": model.n_params,
            "size": model.bytes,
        },
    })
}

/// Describes the server for the page: the defaults of requests, and what `chat` stores about the model of a conversation.
/// Some of the names are those of llama-server.
pub(super) async fn props(State(server): State<Arc<Server>>) -> Response {
    let (model, sampling) = (&server.model, &server.defaults.sampling);
    // An f32 such as 0.7 as it was typed, not as 0.699999988079071.
    let short = |value: f32| value.to_string().parse::<f64>().unwrap_or_default();
    let mut settings = json!({
        "temperature": short(sampling.temperature),
        "top_k": sampling.top_k,
        "top_p": short(sampling.top_p),
        "min_p": short(sampling.min_p),
        "repeat_penalty": short(sampling.repeat_penalty),
        "repeat_last_n": sampling.repeat_last_n,
        "presence_penalty": short(sampling.presence_penalty),
        "frequency_penalty": short(sampling.frequency_penalty),
    });
    if server.defaults.max_tokens != u32::MAX {
        settings["max_tokens"] = json!(server.defaults.max_tokens);
    }
    if let Some(seed) = server.defaults.seed {
        settings["seed"] = json!(seed);
    }
    let body = json!({
        "model": model.name,
        "n_ctx": model.n_ctx,
        "total_slots": model.n_slots,
        "chat_template": model.template,
        "default_generation_settings": settings,
        "conversation_model": {
            "file": model.file,
            "fingerprint": format!("{}-{}", model.bytes, model.digest),
            "template_sha256": hex(&Sha256::digest(&model.template)),
        },
    });
    json_response(StatusCode::OK, &body)
}

/// Tells that the server is ready, and its load.
pub(super) async fn health(State(server): State<Arc<Server>>) -> Response {
    let stats = &server.stats;
    let body = json!({
        "status": "ok",
        "slots": {"total": server.model.n_slots, "busy": stats.busy.load(Ordering::Relaxed)},
        "queue": {"length": stats.waiting.load(Ordering::Relaxed), "limit": server.config.queue},
    });
    json_response(StatusCode::OK, &body)
}

/// Refuses `/v1/embeddings`.
pub(super) async fn no_embeddings() -> Response {
    let message = "there are no embeddings here: Tulu models are trained to chat, and their hidden states make poor \
                   embeddings; use a model made for embeddings";
    ApiError::bad_request("unsupported_endpoint", message).response(Face::OpenAi)
}

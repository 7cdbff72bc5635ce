//! `/api/tags`, `/api/ps`, `/api/show` and `/api/version`.

use crate::clock;
use crate::serve::error::json_response;
use crate::serve::server::Server;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// The version of this program.
pub(in crate::serve) async fn version() -> Response {
    json_response(StatusCode::OK, &json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// Lists the model.
pub(in crate::serve) async fn tags(State(server): State<Arc<Server>>) -> Response {
    json_response(StatusCode::OK, &json!({"models": [entry(&server)]}))
}

/// Lists the model as loaded.
pub(in crate::serve) async fn ps(State(server): State<Arc<Server>>) -> Response {
    let mut entry = entry(&server);
    entry["size_vram"] = json!(0);
    entry["context_length"] = json!(server.model.n_ctx);
    // It stays loaded.
    entry["expires_at"] = json!("9999-12-31T23:59:59Z");
    json_response(StatusCode::OK, &json!({"models": [entry]}))
}

/// Describes the model.
pub(in crate::serve) async fn show(State(server): State<Arc<Server>>) -> Response {
    let model = &server.model;
    let body = json!({
        "details": details(&server),
        "template": model.template,
        "model_info": {
            "general.architecture": "llama",
            "general.parameter_count": model.n_params,
            "llama.context_length": model.n_ctx,
            "llama.vocab_size": model.n_vocab,
        },
        "capabilities": ["completion", "tools"],
        "modified_at": clock::utc(model.created),
    });
    json_response(StatusCode::OK, &body)
}

fn entry(server: &Server) -> Value {
    let model = &server.model;
    json!({
        "name": model.name,
        "model": model.name,
        "modified_at": clock::utc(model.created),
        "size": model.bytes,
        "digest": model.digest,
        "details": details(server),
    })
}

fn details(server: &Server) -> Value {
    let billions = server.model.n_params as f64 / 1e9;
    let size = if billions >= 1.0 { format!("{billions:.1}B") } else { format!("{:.1}M", billions * 1e3) };
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": size,
        "quantization_level": server.model.file_type,
    })
}

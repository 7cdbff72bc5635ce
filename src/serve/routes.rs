//! The paths of the server.

use super::error::{ApiError, Face};
use super::server::Server;
use super::{completions, metrics, model_info, ollama, page, text_tools};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;

/// Returns the table of paths.
pub(super) fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route("/v1/embeddings", post(model_info::no_embeddings))
        .route("/v1/models", get(model_info::list))
        .route("/v1/models/{name}", get(model_info::one))
        .route("/", get(page::html))
        .route("/page/style.css", get(page::style))
        .route("/page/app.js", get(page::app))
        .route("/page/markdown.js", get(page::markdown))
        .route("/props", get(model_info::props))
        .route("/tokenize", post(text_tools::tokenize))
        .route("/detokenize", post(text_tools::detokenize))
        .route("/apply-template", post(text_tools::apply_template))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .route("/metrics", get(metrics::metrics))
        .route("/health", get(model_info::health))
        .fallback(not_found)
        .with_state(server)
}

async fn not_found(request: Request) -> Response {
    let face = Face::of(request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path").response(face)
}

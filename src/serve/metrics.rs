//! `/metrics`: counters in the text format of Prometheus.

use super::server::Server;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use std::fmt::Write as _;
use std::sync::Arc;

/// Returns the counters.
pub(super) async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let mut text = String::new();
    for (name, kind, help, value) in server.stats.rows() {
        let _ = write!(
            text,
            "# HELP tulu_quant_{name} {help}\n# TYPE tulu_quant_{name} {kind}\ntulu_quant_{name} {value}\n"
        );
    }
    let (slots, limit) = (server.model.n_slots, server.config.queue);
    for (name, help, value) in
        [("slots", "Slots.", slots), ("queue_limit", "Requests that may wait for a slot.", limit)]
    {
        let _ = write!(
            text,
            "# HELP tulu_quant_{name} {help}\n# TYPE tulu_quant_{name} gauge\ntulu_quant_{name} {value}\n"
        );
    }
    text += "# HELP tulu_quant_responses_total Responses, by status.\n# TYPE tulu_quant_responses_total counter\n";
    for (status, count) in server.stats.responses() {
        let _ = writeln!(text, "tulu_quant_responses_total{{status=\"{status}\"}} {count}");
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

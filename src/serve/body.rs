//! Reads the body of a request within limits: bytes, time, the number of JSON values, and the bytes of all bodies in
//! memory together.

use super::error::ApiError;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of all bodies in memory.
const ALL_BODIES: usize = 32 << 20;
/// A body has this many bytes and [`BYTES_PER_TOKEN`] for each token of the context: a larger one does not fit anyway.
const LEAST_MAX: usize = 1 << 20;
const BYTES_PER_TOKEN: usize = 32;
/// JSON values of a body besides one for each token of the context. A parsed value takes up to 100 bytes.
const VALUES_MAX: usize = 50_000;

/// Limits of bodies.
#[derive(Debug)]
pub(super) struct BodyLimits {
    bytes: usize,
    values: usize,
    all: Arc<Semaphore>,
}

/// A body in memory.
#[derive(Debug)]
pub(super) struct Buffered {
    bytes: Vec<u8>,
    values_max: usize,
    /// Its part of the bytes of all bodies.
    _held: Option<OwnedSemaphorePermit>,
}

impl BodyLimits {
    /// Creates limits for a context of `n_ctx` tokens.
    pub(super) fn new(n_ctx: usize) -> Self {
        let bytes = LEAST_MAX + BYTES_PER_TOKEN * n_ctx;
        Self { bytes, values: VALUES_MAX + n_ctx, all: Arc::new(Semaphore::new(ALL_BODIES.max(bytes))) }
    }

    /// Reads a body.
    pub(super) async fn read(&self, parts: &Parts, body: Body) -> Result<Buffered, ApiError> {
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.bytes as u64) {
            return Err(self.too_large());
        }
        tokio::time::timeout(BODY_TIMEOUT, self.collect(body)).await.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {} seconds", BODY_TIMEOUT.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message).closing())
        })
    }

    async fn collect(&self, mut body: Body) -> Result<Buffered, ApiError> {
        let mut buffered = Buffered { bytes: Vec::new(), values_max: self.values, _held: None };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                ApiError::bad_request("invalid_body", "the body is incomplete or wrongly encoded").closing()
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if buffered.bytes.len() + data.len() > self.bytes {
                return Err(self.too_large());
            }
            let n = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let held = self.all.clone().try_acquire_many_owned(n).map_err(|_| {
                ApiError::unavailable("overloaded", "the bodies of other requests fill the memory for them").closing()
            })?;
            match &mut buffered._held {
                Some(all) => all.merge(held),
                none => *none = Some(held),
            }
            buffered.bytes.extend_from_slice(&data);
        }
        Ok(buffered)
    }

    fn too_large(&self) -> ApiError {
        let message = format!("the body is larger than {} bytes", self.bytes);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message).closing()
    }
}

impl Buffered {
    /// Returns its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses the body as a JSON object.
    pub(super) fn object(&self) -> Result<Map<String, Value>, ApiError> {
        if n_values(&self.bytes) > self.values_max {
            let message = format!("the body has more than {} JSON values", self.values_max);
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message));
        }
        let value = serde_json::from_slice(&self.bytes)
            .map_err(|err| ApiError::bad_request("bad_json", format!("the body is not JSON: {err}")))?;
        match value {
            Value::Object(fields) => Ok(fields),
            _ => Err(ApiError::bad_request("invalid_body", "the body must be a JSON object")),
        }
    }
}

/// Returns the number of JSON values in a text, at most a few too many.
fn n_values(json: &[u8]) -> usize {
    let (mut n, mut in_string, mut escaped) = (1, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => n += 1,
            _ => {}
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::n_values;

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert_eq!(n_values(b"1"), 1);
        assert_eq!(n_values(br#"{"a,[": "\"{,", "b": [1, 2]}"#), 1 + 1 + 2 + 1 + 1 + 1);
        assert_eq!(n_values(&[b"[".repeat(9), b"]".repeat(9)].concat()), 10);
    }
}

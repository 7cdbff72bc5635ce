//! `--log-requests`: one JSON line for each request for an answer, with its body and its answers. They are as private as
//! what people write, so only the owner of the file may read it. Headers, and with them the keys, are not in it.

use crate::api::finish_reason;
use crate::decode::Answer;
use crate::error::{Code, Failure};
use crate::platform::{append_private, others_can_access};
use crate::{clock, stderr};
use axum::http::request::Parts;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct RequestLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    /// Whether an error was reported: one is enough.
    failed: AtomicBool,
}

impl RequestLog {
    /// Opens the file to append to it, or creates it.
    ///
    /// # Errors
    /// It is a link, not a file, or others can read it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |err: std::io::Error| Failure::io(path, "cannot log requests", &err);
        let file = append_private(path).map_err(failed)?;
        if others_can_access(&file).map_err(failed)? {
            let what = "others can read the file of --log-requests, which would have all prompts and answers";
            return Err(Failure::input(Code::Flags, what, "chmod 600 it, or give another file").at(path));
        }
        Ok(Self(Arc::new(Inner { file, failed: AtomicBool::new(false) })))
    }

    /// Begins the line of a request with this body.
    pub(super) fn begin(&self, parts: &Parts, body: &[u8]) -> LoggedRequest {
        let client = parts.extensions.get::<SocketAddr>().map(ToString::to_string);
        let request: Value = serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into());
        let fields = json!({
            "time": clock::utc(clock::now() as u64),
            "client": client,
            "path": parts.uri.path(),
            "request": request,
        });
        LoggedRequest { log: self.clone(), fields, answers: Vec::new() }
    }

    fn write(&self, line: &Value) {
        // One write, so that lines of several processes do not mix.
        if let Err(err) = (&self.0.file).write_all(format!("{line}\n").as_bytes())
            && !self.0.failed.swap(true, Ordering::SeqCst)
        {
            stderr::note(&format!("--log-requests: cannot write a request ({err})"));
        }
    }
}

/// A request to be logged; dropping it writes the line.
#[derive(Debug)]
pub(super) struct LoggedRequest {
    log: RequestLog,
    fields: Value,
    answers: Vec<Value>,
}

impl LoggedRequest {
    /// Adds a finished answer.
    pub(super) fn add(&mut self, index: usize, answer: &Answer) {
        let usage = &answer.usage;
        self.answers.push(json!({
            "index": index,
            "text": answer.text,
            "finish_reason": finish_reason(answer.reason),
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
        }));
    }
}

impl Drop for LoggedRequest {
    fn drop(&mut self) {
        self.fields["answers"] = std::mem::take(&mut self.answers).into();
        self.log.write(&self.fields);
    }
}

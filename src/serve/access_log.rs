//! The access log: one line on stderr for each request. It has no keys, no prompts and no query strings.

use super::server::TokenCounts;
use crate::{clock, stderr};
use axum::body::Body;
use axum::http::{Method, Response, Uri};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

/// Characters of a path that are logged.
const PATH_MAX: usize = 100;

/// The line of a request; dropping it prints the line.
#[derive(Debug)]
pub(super) struct LogLine {
    enabled: bool,
    peer: SocketAddr,
    method: Method,
    path: String,
    began: Instant,
    /// `None`: the client closed the connection before the response.
    status: Option<u16>,
    bytes: u64,
    complete: bool,
    counts: Option<Arc<TokenCounts>>,
}

impl LogLine {
    /// Begins the line of a request.
    pub(super) fn new(enabled: bool, peer: SocketAddr, method: &Method, uri: &Uri) -> Self {
        Self {
            enabled,
            peer,
            method: method.clone(),
            path: uri.path().chars().take(PATH_MAX).collect(),
            began: Instant::now(),
            status: None,
            bytes: 0,
            complete: false,
            counts: None,
        }
    }

    /// Adds the response. The line is printed when its body has been sent or is dropped.
    pub(super) fn follow(mut self, mut response: Response<Body>) -> Response<Body> {
        self.status = Some(response.status().as_u16());
        self.counts = response.extensions_mut().remove();
        response.map(|body| {
            self.complete = body.is_end_stream();
            Body::new(LoggedBody { body, line: self })
        })
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if !self.enabled {
            return;
        }
        let status = self.status.map_or("-".to_owned(), |status| status.to_string());
        let time = clock::utc(clock::now() as u64);
        let seconds = self.began.elapsed().as_secs_f64();
        let Self { peer, method, path, bytes, .. } = self;
        let mut line = format!("{time} {peer} \"{method} {path}\" {status} {bytes} bytes {seconds:.3} s");
        if let Some(counts) = &self.counts {
            let [prompt, cached, completion] =
                [&counts.prompt, &counts.cached, &counts.completion].map(|count| count.load(Ordering::Relaxed));
            line += &format!(", prompt {prompt} tokens ({cached} cached), answer {completion}");
        }
        if !self.complete {
            line += ", closed by the client";
        }
        stderr::line(&line);
    }
}

/// A body that counts its bytes for the log.
struct LoggedBody {
    body: Body,
    line: LogLine,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.line.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                self.line.complete = self.body.is_end_stream();
            }
            Poll::Ready(None) => self.line.complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

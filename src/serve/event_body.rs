//! The body of a streamed response: turns the events of a job into text as they come. Events that wait are joined into
//! one piece, so a slow reader gets larger pieces.

use super::error::ApiError;
use super::job::{Lost, Update};
use super::server::{Answering, lost};
use crate::decode::Event;
use hyper::body::{Body, Bytes, Frame};
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Without an event for this long, a piece without meaning is sent, so that proxies keep the connection.
const PING_AFTER: Duration = Duration::from_secs(10);
/// Bytes after which a piece is sent even if more events wait.
const PIECE_MAX: usize = 32 << 10;

/// The format of a streamed response.
pub(super) trait StreamFormat: Send + Unpin + 'static {
    /// Returns the text before the first event.
    fn head(&mut self) -> String;
    /// Appends the text for an event of the request `index`.
    fn event(&mut self, index: usize, event: Event, out: &mut String);
    /// Returns the text at the end of all answers.
    fn end(&mut self) -> String;
    /// Returns the text for an error in the middle.
    fn error(&self, error: &ApiError) -> String;
    /// Returns a text without meaning; `None` if the format has none.
    fn ping(&self) -> Option<&'static str>;
}

/// A streamed body.
pub(super) struct EventBody<F> {
    answering: Answering,
    format: F,
    /// Text to send before the next event.
    text: String,
    /// Requests that are not finished.
    unfinished: usize,
    ended: bool,
    ping: Pin<Box<Sleep>>,
}

impl<F: StreamFormat> EventBody<F> {
    /// Streams the events of `n` requests.
    pub(super) fn new(answering: Answering, n: usize, mut format: F) -> Self {
        let text = format.head();
        Self { answering, format, text, unfinished: n, ended: false, ping: Box::pin(sleep(PING_AFTER)) }
    }

    /// Appends the text of the events that are there. Returns whether the body has ended.
    fn take_events(&mut self, cx: &mut Context<'_>) -> bool {
        while self.text.len() < PIECE_MAX {
            match self.answering.updates.poll_recv(cx) {
                Poll::Ready(Some(Update::Event(index, event))) => {
                    if let Event::Finished(answer) = &event {
                        self.unfinished = self.unfinished.saturating_sub(1);
                        self.answering.finished(index, answer);
                    }
                    self.format.event(index, event, &mut self.text);
                }
                Poll::Ready(Some(Update::Started)) => {}
                Poll::Ready(Some(Update::Failed(why))) => {
                    self.text.push_str(&self.format.error(&lost(why)));
                    return true;
                }
                Poll::Ready(None) if self.unfinished == 0 => {
                    let end = self.format.end();
                    self.text.push_str(&end);
                    return true;
                }
                Poll::Ready(None) => {
                    self.text.push_str(&self.format.error(&lost(Lost::Stopped)));
                    return true;
                }
                Poll::Pending => return false,
            }
        }
        false
    }
}

impl<F: StreamFormat> Body for EventBody<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        this.ended = this.take_events(cx);
        if this.text.is_empty() && !this.ended {
            if this.ping.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let Some(ping) = this.format.ping() else {
                this.ping.as_mut().reset(Instant::now() + PING_AFTER);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            this.text.push_str(ping);
        }
        this.ping.as_mut().reset(Instant::now() + PING_AFTER);
        match std::mem::take(&mut this.text) {
            empty if empty.is_empty() => Poll::Ready(None),
            text => Poll::Ready(Some(Ok(Frame::data(Bytes::from(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.text.is_empty()
    }
}

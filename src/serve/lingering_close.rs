//! Closing a connection whose request was not read to its end. If it were closed at once, the system would answer what the
//! client still sends with a reset, and the reset can remove the response before the client reads it (RFC 9112, section
//! 9.6). So the response is followed by the end of our side; what the client sends is then read and dropped until it
//! closes its side, within limits.

use super::stall_guard::StallGuard;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Time until the connection is closed in any case.
const ALL_MAX: Duration = Duration::from_secs(10);
/// Time without a byte of the client after which it is closed.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Bytes that are dropped.
const BYTES_MAX: usize = 256 << 20;
/// Bytes that are dropped at a time.
const PIECE: usize = 64 << 10;

/// Whether all requests of a connection were read to their end, as far as is known.
#[derive(Clone, Debug, Default)]
pub(super) struct AllRead(Arc<AtomicBool>);

impl AllRead {
    fn set(&self, all_read: bool) {
        self.0.store(all_read, Ordering::Relaxed);
    }
}

/// A connection that is closed as described above.
pub(super) struct LingeringClose {
    inner: StallGuard,
    all_read: AllRead,
    closing: Option<Closing>,
}

/// The limits of a connection that is being closed.
struct Closing {
    deadline: Instant,
    silence: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl LingeringClose {
    /// `all_read` is that of the bodies of this connection.
    pub(super) fn new(inner: StallGuard, all_read: AllRead) -> Self {
        Self { inner, all_read, closing: None }
    }
}

impl Closing {
    fn begin() -> Self {
        Self { deadline: Instant::now() + ALL_MAX, silence: Box::pin(sleep(SILENCE_MAX)), bytes_left: BYTES_MAX }
    }

    /// Drops what arrives; ready at the end of the connection or at a limit.
    fn poll_drop(&mut self, cx: &mut Context<'_>, stream: &mut StallGuard) -> Poll<()> {
        let mut bytes = vec![0; PIECE];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    let now = Instant::now();
                    let rest = self.bytes_left.checked_sub(buf.filled().len());
                    let Some(rest) = rest.filter(|_| now < self.deadline) else { return Poll::Ready(()) };
                    self.bytes_left = rest;
                    self.silence.as_mut().reset(self.deadline.min(now + SILENCE_MAX));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.silence.as_mut().poll(cx),
            }
        }
    }
}

impl AsyncRead for LingeringClose {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.all_read.set(false);
        }
        read
    }
}

impl AsyncWrite for LingeringClose {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let closing = match &mut this.closing {
            Some(closing) => closing,
            none => {
                ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
                if this.all_read.0.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                none.insert(Closing::begin())
            }
        };
        closing.poll_drop(cx, &mut this.inner).map(Ok)
    }
}

/// The body of a request, which tells when it was read to its end.
pub(super) struct WatchedBody {
    body: Incoming,
    all_read: AllRead,
}

impl WatchedBody {
    /// `all_read` is that of the connection.
    pub(super) fn new(body: Incoming, all_read: AllRead) -> Self {
        all_read.set(body.is_end_stream());
        Self { body, all_read }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = matches!(polled, Poll::Ready(None)) || polled.is_ready() && self.body.is_end_stream();
        if ended {
            self.all_read.set(true);
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

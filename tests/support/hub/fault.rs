//! Faults of requests whose path contains a text. A fault can be limited to a number of requests and to one host.

use super::Host;
use super::http::{self, Reply};
use std::time::Duration;

#[derive(Clone)]
enum Kind {
    /// Other status and headers instead of the right reply.
    Answer(u16, Vec<(String, String)>),
    /// Status 200 and these bytes.
    Say(Vec<u8>),
    /// The connection breaks after this many bytes of the body.
    Cut(usize),
    /// Content-Length is wrong by this many bytes.
    LieLength(isize),
    /// The lowest bit of the byte at this offset of the file is flipped.
    Corrupt(usize),
    /// The whole file with status 200 for every range.
    IgnoreRange,
    /// A wrong Content-Range.
    ContentRange(String),
    /// A pause before the body.
    Stall(Duration),
    /// Status 206, right headers, and a page of HTML as long as the range.
    Html,
}

/// A fault.
#[derive(Clone)]
pub(crate) struct Fault {
    part: String,
    host: Option<Host>,
    left: usize,
    kind: Kind,
}

impl Fault {
    /// Creates a fault for every request whose path contains `part`. The methods below set its kind; the default is
    /// status 500.
    pub(crate) fn on(part: &str) -> Self {
        Self { part: part.to_owned(), host: None, left: usize::MAX, kind: Kind::Answer(500, Vec::new()) }
    }

    /// Limits the number of faulty requests.
    pub(crate) fn times(self, left: usize) -> Self {
        Self { left, ..self }
    }

    /// Limits the fault to one host.
    pub(crate) fn at(self, host: Host) -> Self {
        Self { host: Some(host), ..self }
    }

    /// Replies with this status and an HTML page.
    pub(crate) fn status(self, status: u16) -> Self {
        Self { kind: Kind::Answer(status, Vec::new()), ..self }
    }

    /// Adds a header. Call it after [`Self::status`].
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Answer(_, headers) = &mut self.kind {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Adds the header with the Hub's error code.
    pub(crate) fn error_code(self, code: &str) -> Self {
        self.header("X-Error-Code", code)
    }

    /// Redirects to `url`.
    pub(crate) fn redirect_to(self, url: &str) -> Self {
        self.status(302).header("Location", url)
    }

    /// Sends these bytes with status 200.
    pub(crate) fn say(self, bytes: &[u8]) -> Self {
        Self { kind: Kind::Say(bytes.to_vec()), ..self }
    }

    /// Breaks the connection after `bytes` bytes of the body.
    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        Self { kind: Kind::Cut(bytes), ..self }
    }

    /// Makes Content-Length wrong by `by` bytes.
    pub(crate) fn lie_length(self, by: isize) -> Self {
        Self { kind: Kind::LieLength(by), ..self }
    }

    /// Flips a bit of the byte at `offset` of the file.
    pub(crate) fn corrupt_at(self, offset: usize) -> Self {
        Self { kind: Kind::Corrupt(offset), ..self }
    }

    /// Sends the whole file for every range.
    pub(crate) fn ignore_range(self) -> Self {
        Self { kind: Kind::IgnoreRange, ..self }
    }

    /// Sends this Content-Range.
    pub(crate) fn content_range(self, text: &str) -> Self {
        Self { kind: Kind::ContentRange(text.to_owned()), ..self }
    }

    /// Waits before the body.
    pub(crate) fn stall(self, time: Duration) -> Self {
        Self { kind: Kind::Stall(time), ..self }
    }

    /// Sends an HTML page with the headers of the right reply.
    pub(crate) fn html(self) -> Self {
        Self { kind: Kind::Html, ..self }
    }

    /// Returns true if the fault replaces the whole reply, false if it changes the data.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.kind, Kind::Answer(..) | Kind::Say(_))
    }

    /// Returns the first fault that matches, and counts it down.
    pub(super) fn take(faults: &mut [Self], host: Host, path: &str, fits: impl Fn(&Self) -> bool) -> Option<Self> {
        let here = |f: &Self| f.left > 0 && f.host.is_none_or(|h| h == host) && path.contains(&f.part);
        let found = faults.iter_mut().find(|f| here(f) && fits(f))?;
        found.left -= usize::from(found.left < usize::MAX);
        Some(found.clone())
    }

    /// Returns the reply of a fault that replaces the whole reply.
    pub(super) fn answer(&self) -> Reply {
        if let Kind::Say(bytes) = &self.kind {
            return Reply::new(200, bytes.clone());
        }
        let Kind::Answer(status, headers) = &self.kind else { unreachable!("asked for by is_answer") };
        let page = b"<html><body>Something went wrong</body></html>".to_vec();
        headers.iter().fold(Reply::new(*status, page), |reply, (name, value)| reply.with(name, value))
    }

    /// The reply with `bytes`, changed by the fault.
    pub(super) fn data(&self, bytes: &[u8], range: Option<&str>) -> Reply {
        let mut reply = http::data(bytes, range);
        match &self.kind {
            Kind::Answer(..) | Kind::Say(_) => unreachable!("taken by answer"),
            Kind::Cut(at) => reply.cut = Some(*at),
            Kind::LieLength(by) => reply.length = Some(reply.body.len().saturating_add_signed(*by)),
            Kind::Corrupt(offset) => {
                let mut bytes = bytes.to_vec();
                let at = offset % bytes.len();
                bytes[at] ^= 1;
                return http::data(&bytes, range);
            }
            Kind::IgnoreRange => return http::data(bytes, None),
            Kind::ContentRange(text) => reply.headers = vec![("Content-Range".into(), text.clone())],
            Kind::Stall(time) => reply.stall = *time,
            Kind::Html => {
                let page = b"<html><body>Please log in</body></html>".iter().copied().cycle();
                reply.body = page.take(reply.body.len()).collect();
            }
        }
        reply
    }
}

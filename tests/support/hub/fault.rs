//! What can go wrong with a request whose path contains a text: so many times, at one host or at both.

use super::Host;
use super::http::{self, Reply};
use std::time::Duration;

#[derive(Clone)]
enum Kind {
    /// Another answer than the right one: status and headers.
    Answer(u16, Vec<(String, String)>),
    /// Status 200 and these bytes.
    Say(Vec<u8>),
    /// The connection breaks after so many bytes of the body.
    Cut(usize),
    /// Content-Length is wrong by so many bytes.
    LieLength(isize),
    /// The byte at this offset of the file is another one.
    Corrupt(usize),
    /// The whole file, status 200, whatever range was asked for.
    IgnoreRange,
    /// Another Content-Range than the right one.
    ContentRange(String),
    /// Silence before the body.
    Stall(Duration),
    /// Status 206, right headers, and a page of HTML as long as the range.
    Html,
}

/// One thing that goes wrong.
#[derive(Clone)]
pub(crate) struct Fault {
    part: String,
    host: Option<Host>,
    left: usize,
    kind: Kind,
}

impl Fault {
    /// On requests whose path contains `part`: every time, unless [`Self::times`] says otherwise.
    pub(crate) fn on(part: &str) -> Self {
        Self { part: part.to_owned(), host: None, left: usize::MAX, kind: Kind::Answer(500, Vec::new()) }
    }

    /// Only so many times.
    pub(crate) fn times(self, left: usize) -> Self {
        Self { left, ..self }
    }

    /// Only at one host.
    pub(crate) fn at(self, host: Host) -> Self {
        Self { host: Some(host), ..self }
    }

    pub(crate) fn status(self, status: u16) -> Self {
        Self { kind: Kind::Answer(status, Vec::new()), ..self }
    }

    /// A header of the answer; after [`Self::status`].
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Kind::Answer(_, headers) = &mut self.kind {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub(crate) fn error_code(self, code: &str) -> Self {
        self.header("X-Error-Code", code)
    }

    pub(crate) fn redirect_to(self, url: &str) -> Self {
        self.status(302).header("Location", url)
    }

    /// These bytes instead of the right ones, with status 200.
    pub(crate) fn say(self, bytes: &[u8]) -> Self {
        Self { kind: Kind::Say(bytes.to_vec()), ..self }
    }

    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        Self { kind: Kind::Cut(bytes), ..self }
    }

    pub(crate) fn lie_length(self, by: isize) -> Self {
        Self { kind: Kind::LieLength(by), ..self }
    }

    pub(crate) fn corrupt_at(self, offset: usize) -> Self {
        Self { kind: Kind::Corrupt(offset), ..self }
    }

    pub(crate) fn ignore_range(self) -> Self {
        Self { kind: Kind::IgnoreRange, ..self }
    }

    pub(crate) fn content_range(self, text: &str) -> Self {
        Self { kind: Kind::ContentRange(text.to_owned()), ..self }
    }

    pub(crate) fn stall(self, time: Duration) -> Self {
        Self { kind: Kind::Stall(time), ..self }
    }

    pub(crate) fn html(self) -> Self {
        Self { kind: Kind::Html, ..self }
    }

    /// Whether it replaces the answer, not the data.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.kind, Kind::Answer(..) | Kind::Say(_))
    }

    /// The first fault that fits, and one time less of it.
    pub(super) fn take(faults: &mut [Self], host: Host, path: &str, fits: impl Fn(&Self) -> bool) -> Option<Self> {
        let here = |f: &Self| f.left > 0 && f.host.is_none_or(|h| h == host) && path.contains(&f.part);
        let found = faults.iter_mut().find(|f| here(f) && fits(f))?;
        found.left -= usize::from(found.left < usize::MAX);
        Some(found.clone())
    }

    pub(super) fn answer(&self) -> Reply {
        if let Kind::Say(bytes) = &self.kind {
            return Reply::new(200, bytes.clone());
        }
        let Kind::Answer(status, headers) = &self.kind else { unreachable!("asked for by is_answer") };
        let page = b"<html><body>Something went wrong</body></html>".to_vec();
        headers.iter().fold(Reply::new(*status, page), |reply, (name, value)| reply.with(name, value))
    }

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

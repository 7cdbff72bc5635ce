//! The part of HTTP/1.1 that the hub needs: requests with headers, replies with a body, ranges, keep-alive.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header; `name` is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
    }
}

/// A reply. `length` and `cut` make it a faulty one.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The Content-Length, if it differs from the length of the body.
    pub(super) length: Option<usize>,
    /// The connection breaks after this many bytes of the body.
    pub(super) cut: Option<usize>,
    /// A pause before the body.
    pub(super) stall: Duration,
}

impl Reply {
    /// A reply without headers.
    pub(super) fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body, length: None, cut: None, stall: Duration::ZERO }
    }

    /// Status 200 with a JSON document.
    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, value.to_string().into_bytes()).with("Content-Type", "application/json")
    }

    /// An error page with the Hub's error code.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let page = format!("<html><body>Error {status}: {code}</body></html>");
        Self::new(status, page.into_bytes()).with("X-Error-Code", code).with("X-Error-Message", "as the server says")
    }

    /// Status 302.
    pub(super) fn redirect(to: &str) -> Self {
        Self::new(302, Vec::new()).with("Location", to)
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A reply with `bytes`, or with the requested range of them.
pub(super) fn data(bytes: &[u8], range: Option<&str>) -> Reply {
    let Some((start, end)) = range.and_then(|r| r.strip_prefix("bytes=")?.split_once('-')) else {
        return Reply::new(200, bytes.to_vec());
    };
    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
    if start > end || end >= bytes.len() {
        return Reply::error(416, "");
    }
    let said = format!("bytes {start}-{end}/{}", bytes.len());
    Reply::new(206, bytes[start..=end].to_vec()).with("Content-Range", &said)
}

/// A connection to a client.
pub(super) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Reads from and writes to `stream`.
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// The next request; `None` if the client has closed the connection.
    pub(super) fn request(&mut self) -> Option<Request> {
        let mut line = || {
            let mut text = String::new();
            self.0.read_line(&mut text).ok().filter(|n| *n > 0)?;
            Some(text.trim_end().to_owned())
        };
        let first = line()?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        while let Some(text) = line().filter(|text| !text.is_empty()) {
            let (name, value) = text.split_once(':')?;
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        Some(Request { method, path, headers })
    }

    /// Sends `reply`. Returns the number of body bytes sent, and whether the connection stays open.
    pub(super) fn send(&mut self, reply: &Reply, head_only: bool) -> (u64, bool) {
        let length = reply.length.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} Status\r\nContent-Length: {length}\r\n", reply.status);
        reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let stream = self.0.get_mut();
        if stream.write_all(format!("{head}\r\n").as_bytes()).is_err() {
            return (0, false);
        }
        if head_only {
            return (0, true);
        }
        std::thread::sleep(reply.stall);
        let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        let mut sent = 0;
        for part in reply.body[..end].chunks(16 << 10) {
            if stream.write_all(part).is_err() {
                return (sent, false);
            }
            sent += part.len() as u64;
        }
        let open = reply.cut.is_none() && length == reply.body.len();
        if !open {
            let _ = stream.shutdown(Shutdown::Write);
        }
        (sent, open)
    }

    /// Sends status 400, for bytes that are not HTTP.
    pub(super) fn refuse(&mut self) {
        let _ = self.0.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }

    /// The socket, for a tunnel.
    pub(super) fn into_stream(self) -> TcpStream {
        self.0.into_inner()
    }
}

//! `tulu-quant serve` with the bundled model on a free port, and a small HTTP client for it.

use super::{demo_model, tulu_quant};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Options with which the bundled model generates until its context is full.
pub(crate) const ENDLESS: &str = r#""temperature": 5, "top_k": 0, "top_p": 1, "seed": 2, "logit_bias": {"2": -100}"#;

/// A running server; it is killed at the end.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    lines: Mutex<Receiver<String>>,
    seen: Vec<String>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    /// Starts a server on one thread with a context of 512 tokens, unless `flags` set another.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::spawn(command(flags))
    }

    /// Starts `command`, and waits until it prints its address.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stderr.take().unwrap());
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().trim_start_matches("http://").to_owned();
        assert!(!address.is_empty(), "the server did not start: {:?}", lines.iter().collect::<Vec<_>>());
        Self { child, address, lines: Mutex::new(lines), seen: Vec::new() }
    }

    /// Connects to the server.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a request with `Connection: close`, and reads the response. `headers` are whole lines.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        let mut stream = self.connect();
        // A server that refuses a body may close the connection before it was sent.
        let _ = stream.write_all(self.request(method, path, headers, body).as_bytes());
        read_response(&mut stream)
    }

    /// Returns the text of a request.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> String {
        let host = if headers.iter().any(|line| line.starts_with("Host:")) {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
    }

    /// GET without other headers.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], "")
    }

    /// POST of a JSON body.
    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        self.send("POST", path, &[], body)
    }

    /// A chat with one message of the user; `extra` are more fields of the body.
    pub(crate) fn chat(&self, content: &str, extra: &str) -> Response {
        self.post("/v1/chat/completions", &chat_body(content, extra))
    }

    /// Waits until `/health` has no busy slot and no waiting request.
    pub(crate) fn wait_until_idle(&self) {
        self.wait_for_slots(0);
    }

    /// Waits until `/health` shows this number of busy slots, and nothing in the queue if it is 0.
    pub(crate) fn wait_for_slots(&self, busy: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let health = self.get("/health").json();
            if health["slots"]["busy"] == busy && (busy > 0 || health["queue"]["length"] == 0) {
                return;
            }
            assert!(Instant::now() < deadline, "{busy} busy slots were expected: {health}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line on stderr that contains `text`, and returns it.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        loop {
            if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            match self.lines.get_mut().unwrap().recv_timeout(Duration::from_secs(20)) {
                Ok(line) => self.seen.push(line),
                Err(err) => panic!("no line with '{text}' ({err}): {:#?}", self.seen),
            }
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        super::batch::signal(&self.child, "TERM");
    }

    /// Waits for the end, and returns the exit code and all of stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let lines: Vec<String> = self.seen.drain(..).chain(self.lines.get_mut().unwrap().iter()).collect();
        (status.code(), lines.join("\n"))
    }

    /// Resident memory in KiB.
    pub(crate) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Response {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    /// The data of the server-sent events.
    pub(crate) fn events(&self) -> Vec<String> {
        let data = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.map(str::to_owned).collect()
    }

    /// The text of an answer in one piece.
    pub(crate) fn answer(&self) -> String {
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// Returns `serve` with the bundled model; see [`Server::start`].
pub(crate) fn command(flags: &[&str]) -> Command {
    let mut command = tulu_quant();
    command.arg("serve").arg(demo_model()).args(["-t", "1"]);
    for (flag, value) in [("-c", "512"), ("--port", "0")] {
        if !flags.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command.args(flags);
    command
}

/// The body of a chat with one message of the user.
pub(crate) fn chat_body(content: &str, extra: &str) -> String {
    let content = Value::from(content);
    let comma = if extra.is_empty() { "" } else { ", " };
    format!(r#"{{"model": "any", "messages": [{{"role": "user", "content": {content}}}]{comma}{extra}}}"#)
}

/// Reads a response up to the end of the connection.
pub(crate) fn read_response(stream: &mut impl Read) -> Response {
    let mut bytes = Vec::new();
    // A server that refuses a body closes the connection while the client still writes.
    let _ = stream.read_to_end(&mut bytes);
    parse_response(&bytes)
}

/// Parses a response; its body ends at the end of `bytes`.
pub(crate) fn parse_response(bytes: &[u8]) -> Response {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = bytes.get(end + 4..).unwrap_or_default();
    let body = if head.contains("transfer-encoding: chunked") { dechunk(body) } else { body.to_owned() };
    Response { status, head, body: String::from_utf8(body).unwrap() }
}

/// Joins the chunks of a body.
fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).unwrap(), 16).unwrap();
        let Some(chunk) = bytes.get(line + 2..line + 2 + length) else { break };
        all.extend_from_slice(chunk);
        bytes = bytes.get(line + 4 + length..).unwrap_or_default();
    }
    all
}

fn lines_of(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

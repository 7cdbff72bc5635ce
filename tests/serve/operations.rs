//! The log of requests, and sockets of systemd.

use crate::support::assert_error;
use crate::support::serve::{Response, Server, chat_body, command, read_response};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn requests_and_answers_are_logged_without_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.jsonl");
    let server = Server::start(&["--log-requests", file.to_str().unwrap(), "--api-key", "sk-secret"]);
    let send = |path: &str, body: &str| server.send("POST", path, &["Authorization: Bearer sk-secret"], body);
    let chat = send("/v1/chat/completions", &chat_body("Who are\nyou?", r#""max_tokens": 6, "temperature": 0"#));
    send("/v1/chat/completions", &chat_body("Who are\nyou?", r#""max_tokens": 6, "temperature": 0, "stream": true"#));
    send("/api/generate", r#"{"prompt": "Hi", "stream": false, "options": {"num_predict": 2}}"#);
    send("/v1/chat/completions", "{");
    server.get("/health");
    server.wait_until_idle();
    server.terminate();
    let (_, log) = server.end();
    assert!(!log.contains("Who are"), "{log}");
    let all = lines(&file);
    assert_eq!(all.len(), 4, "{all:?}");
    let answer = chat.answer();
    for line in &all[..2] {
        assert_eq!(line["request"]["messages"][0]["content"], "Who are\nyou?");
        assert_eq!(
            (line["answers"][0]["text"].as_str(), &line["answers"][0]["finish_reason"]),
            (Some(&*answer), &json!("length"))
        );
        assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{line}");
    }
    assert_eq!(all[2]["path"], "/api/generate");
    assert_eq!((&all[3]["request"], &all[3]["answers"]), (&json!("{"), &json!([])));
    assert!(!fs::read_to_string(&file).unwrap().contains("sk-secret"));
}

#[cfg(unix)]
#[test]
fn a_log_that_others_can_read_is_refused() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let refused = |file: &Path, code: i32, name: &str, why: &str| {
        let output = command(&["--log-requests", file.to_str().unwrap()]).output().unwrap();
        assert_error(&output, code, name, &[why]);
    };
    let readable = folder.path().join("readable");
    fs::write(&readable, "").unwrap();
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o640)).unwrap();
    refused(&readable, 2, "FLAGS", "others can read");
    let target = folder.path().join("target");
    let link = folder.path().join("link");
    symlink(&target, &link).unwrap();
    refused(&link, 3, "IO", "cannot log requests");
    assert!(!target.exists());
    refused(folder.path(), 2, "IO", "cannot log requests");
    let own = folder.path().join("own");
    let server = Server::start(&["--log-requests", own.to_str().unwrap()]);
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
    drop(server);
}

/// Returns a shell command that runs the server with `socket` as its file 3.
#[cfg(unix)]
fn with_socket(socket: std::os::fd::OwnedFd, flags: &[&str]) -> Command {
    let server = command(flags);
    let mut shell = Command::new("sh");
    // LISTEN_PID is the process that exec keeps.
    shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null"]).arg(server.get_program());
    shell.args(server.get_args()).stdin(Stdio::from(socket));
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[cfg(unix)]
#[test]
fn the_socket_of_systemd_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A client that connects before the server runs is answered.
    let mut early = TcpStream::connect(address).unwrap();
    early
        .write_all(format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let server = Server::spawn(with_socket(listener.into(), &["--host", "no.such.host.invalid"]));
    assert_eq!(server.address, address.to_string());
    let response: Response = read_response(&mut early);
    assert_eq!(response.status, 200);
    assert_eq!(server.chat("Hello", r#""max_tokens": 1"#).status, 200);
    drop(server);

    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let output = with_socket(open.into(), &[]).output().unwrap();
    assert_error(&output, 2, "FLAGS", &["other machines can reach 0.0.0.0:", "no API key"]);
    let file = tempfile::tempfile().unwrap();
    let output = with_socket(file.into(), &[]).output().unwrap();
    assert_error(&output, 3, "LISTEN", &["LISTEN_FDS", "not a socket"]);
}

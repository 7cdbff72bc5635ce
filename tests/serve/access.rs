//! Keys, the Host header, other sites, and addresses of other machines.

use crate::support::serve::{Server, chat_body, command};
use crate::support::{assert_error, run};
use std::fs;

#[test]
fn a_key_is_needed_and_is_never_shown() {
    let mut command = command(&[]);
    command.env("TULU_QUANT_API_KEY", "sk-secret-1");
    let server = Server::spawn(command);
    let body = chat_body("private words", r#""max_tokens": 1"#);
    let with = |headers: &[&str]| server.send("POST", "/v1/chat/completions?key=sk-secret-1", headers, &body);
    assert_eq!(with(&["Authorization: Bearer sk-secret-1"]).status, 200);
    for wrong in ["Authorization: Bearer sk-secret-2", "Authorization: Bearer sk-secret-", "X-Api-Key: sk-secret-1"] {
        let response = with(&[wrong]);
        assert_eq!(
            (response.status, response.json()["error"]["code"].as_str()),
            (401, Some("invalid_api_key")),
            "{wrong}"
        );
        assert!(response.head.contains("www-authenticate: bearer"), "{}", response.head);
    }
    assert_eq!(server.get("/v1/models").status, 401);
    assert_eq!(server.get("/health").status, 200);
    server.terminate();
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("\"POST /v1/chat/completions\" 200") && log.contains("\"POST /v1/chat/completions\" 401"),
        "{log}"
    );
    assert!(!log.contains("secret") && !log.contains("private"), "{log}");
}

#[test]
fn keys_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    fs::write(&file, "one\n\n two \n").unwrap();
    let server = Server::start(&["--api-key-file", file.to_str().unwrap()]);
    for (key, status) in [("one", 200), ("two", 200), ("three", 401)] {
        let header = format!("Authorization: Bearer {key}");
        assert_eq!(server.send("GET", "/v1/models", &[&header], "").status, status, "{key}");
    }
    fs::write(&file, "\n").unwrap();
    let output = run(&mut command(&["--api-key-file", file.to_str().unwrap()]), b"");
    assert_error(&output, 2, "FLAGS", &["has no key"]);
}

#[test]
fn other_machines_need_a_key() {
    for host in ["0.0.0.0", "::"] {
        let output = run(&mut command(&["--host", host]), b"");
        assert_error(&output, 2, "FLAGS", &["other machines", "TULU_QUANT_API_KEY"]);
    }
    let output = run(&mut command(&["--no-auth", "--api-key", "k"]), b"");
    assert_error(&output, 2, "FLAGS", &["contradict"]);
    let server = Server::start(&["--host", "0.0.0.0", "--no-auth"]);
    assert!(server.address.starts_with("0.0.0.0:"));
    assert_eq!(server.get("/v1/models").status, 200);
}

#[test]
fn names_and_sites_that_are_not_ours_are_refused() {
    let server = Server::start(&["--cors", "https://chat.example", "--allowed-host", "laptop.local"]);
    let with = |headers: &[&str]| server.send("GET", "/v1/models", headers, "");
    for (host, status) in [("localhost", 200), ("laptop.local:8080", 200), ("evil", 403), ("evil.example:80", 403)] {
        assert_eq!(with(&[&format!("Host: {host}")]).status, status, "{host}");
    }
    assert_eq!(with(&["Origin: https://evil.example"]).status, 403);
    let allowed = with(&["Origin: https://chat.example"]);
    assert_eq!(allowed.status, 200);
    assert!(allowed.head.contains("access-control-allow-origin: https://chat.example"), "{}", allowed.head);
    assert!(!with(&[]).head.contains("access-control"));
    let preflight = ["Origin: https://chat.example", "Access-Control-Request-Method: POST"];
    let response = server.send("OPTIONS", "/v1/chat/completions", &preflight, "");
    assert!(response.status == 204 && response.head.contains("authorization"), "{response:?}");
    let response = server.send("OPTIONS", "/v1/chat/completions", &["Origin: https://evil.example"], "");
    assert_eq!(response.status, 403);
}

#[test]
fn a_port_in_use_is_reported_before_the_model_is_loaded() {
    let server = Server::start(&[]);
    let port = server.address.rsplit(':').next().unwrap();
    let output = run(&mut command(&["--port", port]), b"");
    assert_error(&output, 3, "LISTEN", &["--port 0"]);
    let output = run(&mut command(&["--host", "no such name"]), b"");
    assert_error(&output, 2, "LISTEN", &["--host"]);
}

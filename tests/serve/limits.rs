//! Hostile and broken requests: each gets a 4xx or a closed connection, and memory stays bounded.

use crate::support::serve::{Response, Server, chat_body, parse_response, read_response};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

/// Sends raw bytes, closes this side, and returns everything that comes back.
fn raw(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut connection = server.connect();
    let _ = connection.write_all(bytes);
    let _ = connection.shutdown(Shutdown::Write);
    let mut back = Vec::new();
    let _ = connection.read_to_end(&mut back);
    back
}

/// Whether the answer is a 4xx, or a closed connection without an answer.
fn is_refused(back: &[u8]) -> bool {
    back.is_empty() || (400..500).contains(&parse_response(back).status)
}

#[test]
fn large_bodies_are_refused_without_being_read() {
    let server = Server::start(&[]);
    server.chat("Hello", r#""max_tokens": 1"#);
    let before = server.rss();
    let mut connection = server.connect();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Length: 1073741824\r\n\r\n", server.address);
    connection.write_all(head.as_bytes()).unwrap();
    let response = read_response(&mut connection);
    assert_eq!((response.status, response.json()["error"]["code"].as_str()), (413, Some("request_too_large")));

    // The length is not announced.
    let mut connection = server.connect();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", server.address);
    connection.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let sent = (0..1024).take_while(|_| connection.write_all(&chunk).is_ok()).count();
    assert!(sent < 512, "{sent} MiB were read");

    for body in [
        format!(
            r#"{{"messages": [{}{{"role": "user", "content": ""}}]}}"#,
            r#"{"role": "user", "content": ""},"#.repeat(100_000)
        ),
        format!(r#"{{"messages": [{}1]}}"#, "1,".repeat(400_000)),
        format!(r#"{{"messages": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
        format!(
            r#"{{"messages": [{}{{"role": "user", "content": "a"}}]}}"#,
            r#"{"role": "user", "content": ""},"#.repeat(2_000)
        ),
        chat_body(&"a".repeat(900_000), ""),
    ] {
        let response = server.post("/v1/chat/completions", &body);
        assert!(matches!(response.status, 400 | 413), "{} {}", response.status, response.body);
    }
    assert_eq!(server.get("/health").status, 200);
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
}

/// Sends all of `bytes` before it reads.
fn send_all_first(server: &Server, bytes: &[u8]) -> Response {
    let mut connection = server.connect();
    connection.write_all(bytes).unwrap_or_else(|err| panic!("the connection was reset: {err}"));
    read_response(&mut connection)
}

#[test]
fn a_client_that_sends_everything_first_still_gets_the_answer() {
    let server = Server::start(&["--api-key", "k"]);
    let head = |first: &str, headers: &str| {
        format!("{first} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer k\r\n{headers}\r\n", server.address).into_bytes()
    };
    let post = "POST /v1/chat/completions";
    let large = vec![b' '; 24 << 20];
    let length = format!("Content-Length: {}\r\n", large.len());
    let chunk = [b"1800000\r\n".as_slice(), &large, b"\r\n0\r\n\r\n"].concat();
    let long_header = format!("X: {}\r\n", "a".repeat(8 << 20));
    let no_key = String::from_utf8(head(post, &length)).unwrap().replace("Bearer k", "Bearer j").into_bytes();
    for (name, bytes, status) in [
        ("announced", [head(post, &length), large.clone()].concat(), 413),
        ("chunked", [head(post, "Transfer-Encoding: chunked\r\n"), chunk].concat(), 413),
        (
            "wrong chunk",
            [head(post, "Transfer-Encoding: chunked\r\n"), b"zz\r\n".to_vec(), large.clone()].concat(),
            400,
        ),
        ("wrong key", [no_key, large.clone()].concat(), 401),
        ("wrong host", [head("POST http://evil/v1/chat/completions", &length), large.clone()].concat(), 403),
        ("wrong path", [head("POST /../../etc/passwd", &length), large.clone()].concat(), 404),
        ("wrong method", [head("PUT /v1/models", &length), large.clone()].concat(), 405),
        ("long header", head("GET /health", &long_header), 431),
        ("not HTTP", [b"nonsense \0\0\r\n\r\n".to_vec(), large.clone()].concat(), 400),
    ] {
        let response = send_all_first(&server, &bytes);
        assert_eq!(response.status, status, "{name}: {response:?}");
    }
    // A body that was read to its end does not delay the end of the connection.
    let small = [head(post, "Content-Length: 2\r\nConnection: close\r\n"), b"{}".to_vec()].concat();
    assert_eq!(send_all_first(&server, &small).status, 400);
}

#[test]
fn broken_http_is_refused() {
    let server = Server::start(&[]);
    let host = format!("Host: {}\r\n", server.address);
    let chat = chat_body("Hello", r#""max_tokens": 1"#);
    let cases: Vec<Vec<u8>> = vec![
        b"\0\0\0\0".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /health HTTP/1.1\r\n\r\n".to_vec(),
        format!("GET /health HTTP/1.1\r\n{host}{host}\r\n").into_bytes(),
        format!("GET /health HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
        format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(1 << 20)).into_bytes(),
        format!("GET /health HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(5000)).into_bytes(),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n")
            .into_bytes(),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{{}}")
            .into_bytes(),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n{{}}").into_bytes(),
        format!("POST /v1/chat/completions HTTP/1.1\r\n{host}Content-Length: 100\r\n\r\n{{}}").into_bytes(),
        format!("GET http://evil/health HTTP/1.1\r\n{host}\r\n").into_bytes(),
        format!("CONNECT evil:80 HTTP/1.1\r\n{host}\r\n").into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ];
    for case in &cases {
        let back = raw(&server, case);
        let shown: String = String::from_utf8_lossy(case).chars().take(100).collect();
        assert!(is_refused(&back), "{shown}: {}", String::from_utf8_lossy(&back));
    }
    let mut connection = server.connect();
    connection.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut connection).status, 200);
    let old = format!("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{chat}", chat.len());
    let mut connection = server.connect();
    connection.write_all(old.as_bytes()).unwrap();
    assert_eq!(read_response(&mut connection).status, 200);
    server.wait_until_idle();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let get = |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{end}\r\n", server.address);
    let all = [get("/health", ""), get("/nothing", ""), get("/v1/models", "Connection: close\r\n")].concat();
    connection.write_all(all.as_bytes()).unwrap();
    let mut back = String::new();
    connection.read_to_string(&mut back).unwrap();
    let status: Vec<&str> = back.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(status, ["200", "404", "200"]);
}

#[test]
fn many_idle_connections_do_not_stop_the_server() {
    let server = Server::start(&[]);
    let slow = |_| {
        let mut connection: TcpStream = server.connect();
        connection.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-").unwrap();
        connection
    };
    let connections: Vec<TcpStream> = (0..200).map(slow).collect();
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.chat("Hello", r#""max_tokens": 1"#).status, 200);
    drop(connections);
}

#[test]
#[ignore = "takes half a minute: the time limit of headers"]
fn long_headers_and_bodies_that_never_arrive_end_their_connection() {
    let server = Server::start(&[]);
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Length: 99\r\n\r\n{{", server.address);
    for (bytes, status) in [(b"GET / HTTP/1.1\r\nHost: ".as_slice(), 0), (head.as_bytes(), 408), (b"", 0)] {
        let mut connection = server.connect();
        connection.write_all(bytes).unwrap();
        assert_eq!(read_response(&mut connection).status, status);
    }
}

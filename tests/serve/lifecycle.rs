//! Queue, cancelled requests, deadlines, and the end of the server.

use crate::support::serve::{ENDLESS, Server, chat_body, read_response};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sends a chat with `n` answers that fill the context. `stream`: as server-sent events.
fn endless(server: &Server, n: u32, stream: bool) -> TcpStream {
    let body = chat_body("Hello", &format!("{ENDLESS}, \"n\": {n}, \"stream\": {stream}"));
    let mut connection = server.connect();
    connection.write_all(server.request("POST", "/v1/chat/completions", &[], &body).as_bytes()).unwrap();
    connection
}

/// Waits until this many requests of the decoder wait for a slot, or more.
fn wait_for_queue(server: &Server, n: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.get("/health").json()["queue"]["length"].as_u64().unwrap() < n {
        assert!(Instant::now() < deadline, "the queue stays shorter than {n}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads until the first token of a stream.
fn first_token(connection: &mut TcpStream) {
    let mut read = String::new();
    let mut buffer = [0; 4096];
    while !read.contains("\"delta\":{\"content\"") {
        let n = connection.read(&mut buffer).unwrap();
        assert!(n > 0, "{read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
}

#[test]
fn a_closed_connection_frees_its_slot() {
    // The answers would take much longer than this test.
    let server = Server::start(&["-np", "2", "-c", "1024"]);
    for stream in [true, false] {
        let mut connections = [endless(&server, 64, stream), endless(&server, 64, stream)];
        server.wait_for_slots(2);
        if stream {
            first_token(&mut connections[0]);
        }
        let began = Instant::now();
        drop(connections);
        server.wait_until_idle();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    assert_eq!(server.chat("Hello", r#""max_tokens": 1"#).status, 200);
}

#[test]
fn a_client_that_does_not_read_loses_its_answer_and_not_a_slot() {
    let mut server = Server::start(&["-np", "4", "-c", "1024"]);
    let body = chat_body(
        "Hello",
        &format!("{ENDLESS}, \"n\": 128, \"stream\": true, \"logprobs\": true, \"top_logprobs\": 20"),
    );
    let mut connection = server.connect();
    connection.write_all(server.request("POST", "/v1/chat/completions", &[], &body).as_bytes()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(300);
    while !server.get("/metrics").body.contains("tulu_quant_dropped_total 1") {
        assert!(Instant::now() < deadline, "the answer of a client that does not read was not dropped");
        std::thread::sleep(Duration::from_millis(100));
    }
    server.wait_until_idle();
    assert!(server.line_with("too slowly").contains("the answer was dropped"));
    assert_eq!(server.chat("Hello", r#""max_tokens": 1"#).status, 200);
    drop(connection);
}

#[test]
fn a_full_queue_is_refused_and_a_waiting_request_is_answered_later() {
    let server = Server::start(&["-np", "1", "--queue", "1", "-c", "1024"]);
    let running = endless(&server, 64, true);
    server.wait_for_slots(1);
    let mut waiting = server.connect();
    let request = server.request("POST", "/v1/chat/completions", &[], &chat_body("Hello", r#""max_tokens": 2"#));
    waiting.write_all(request.as_bytes()).unwrap();
    wait_for_queue(&server, 64);
    let refused = server.chat("Hello", "");
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("queue_full")));
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    drop(running);
    assert_eq!(read_response(&mut waiting).status, 200);
}

#[test]
fn answers_of_one_request_leave_slots_to_others() {
    let server = Server::start(&["-np", "2", "-c", "1024"]);
    let _many = endless(&server, 64, false);
    server.wait_for_slots(2);
    // A slot becomes free when one of the 64 is finished; the other request gets it.
    assert_eq!(server.chat("Hello", r#""max_tokens": 1"#).status, 200);
    assert!(server.get("/health").json()["queue"]["length"].as_u64().unwrap() > 40);
}

#[test]
fn a_request_is_given_up_at_its_deadline() {
    let server = Server::start(&["--request-timeout", "1", "-c", "1024", "-np", "1"]);
    let late = server.chat("Hello", &format!("{ENDLESS}, \"n\": 128"));
    assert_eq!((late.status, late.json()["error"]["code"].as_str()), (503, Some("timeout")));
    let streamed = server.chat("Hello", &format!("{ENDLESS}, \"n\": 128, \"stream\": true"));
    assert_eq!(streamed.status, 200);
    assert!(streamed.events().last().unwrap().contains("\"code\":\"timeout\""), "{:?}", streamed.events().last());
    server.wait_until_idle();
}

#[test]
fn sigterm_lets_running_answers_finish() {
    let mut server = Server::start(&["-np", "1"]);
    let mut running = endless(&server, 4, true);
    let mut waiting = endless(&server, 1, false);
    first_token(&mut running);
    wait_for_queue(&server, 1);
    server.terminate();
    server.line_with("stopping");
    let address = server.address.clone();
    let mut ended = String::new();
    running.read_to_string(&mut ended).unwrap();
    assert!(ended.trim_end().ends_with("[DONE]\n\n\r\n0"), "{ended}");
    assert_eq!(read_response(&mut waiting).json()["choices"][0]["finish_reason"], "length");
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn the_time_to_drain_is_bounded_and_a_second_signal_stops_at_once() {
    let mut server = Server::start(&["-np", "1", "-c", "1024", "--drain-timeout", "1"]);
    let connection = endless(&server, 64, false);
    server.wait_for_slots(1);
    server.terminate();
    server.line_with("were cancelled");
    assert_eq!(server.end().0, Some(0));
    drop(connection);

    let mut server = Server::start(&["-np", "1", "-c", "1024"]);
    let _connection = endless(&server, 64, false);
    server.wait_for_slots(1);
    server.terminate();
    server.line_with("stopping");
    server.terminate();
    assert_eq!(server.end().0, Some(143));
}

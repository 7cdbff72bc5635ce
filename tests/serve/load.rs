//! Many clients at once: some cancel, some send nonsense, some read slowly.

use crate::support::serve::{ENDLESS, Server, chat_body};
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const REQUESTS: usize = 1000;
const CLIENTS: usize = 64;

/// Numbers that look random, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Sends one request. Returns its status; `None` if it was cancelled.
fn one(server: &Server, random: &mut Random) -> Option<u16> {
    let kind = random.below(100);
    let stream = random.below(2) == 0;
    let body = match kind {
        0..5 => ["{", "[]", r#"{"messages": 7}"#, "{\"a\": \u{1}}"][random.below(4) as usize].to_owned(),
        5..25 => chat_body("Hello", &format!("{ENDLESS}, \"n\": 2, \"stream\": {stream}")),
        _ => chat_body(
            &format!("What is {} and 3?", random.below(50)),
            &format!("\"max_tokens\": 12, \"stream\": {stream}"),
        ),
    };
    let mut connection = server.connect();
    connection.write_all(server.request("POST", "/v1/chat/completions", &[], &body).as_bytes()).ok()?;
    if (5..25).contains(&kind) {
        thread::sleep(Duration::from_millis(random.below(60)));
        return None;
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    let size = if kind >= 95 { 64 } else { buffer.len() };
    loop {
        match connection.read(&mut buffer[..size]) {
            Ok(0) | Err(_) => break,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
        if kind >= 95 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    assert!(status != 200 || text.contains("finish_reason"), "an answer was cut: {text}");
    Some(status)
}

#[test]
#[ignore = "takes some ten seconds of all cores"]
fn long_load_of_a_thousand_requests_loses_none() {
    let server = Server::start(&["-np", "8", "--no-access-log"]);
    server.chat("Hello", r#""max_tokens": 4"#);
    let seed = std::env::var("TULU_QUANT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11_u64);
    println!("TULU_QUANT_SEED={seed}");
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut memory = Vec::new();
    let (mut status, mut health) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let client = |number: usize| {
            let mut random = Random(seed.wrapping_mul(1000) + number as u64);
            let mut seen = Vec::new();
            while next.fetch_add(1, Ordering::SeqCst) < REQUESTS {
                seen.push(one(&server, &mut random));
                done.fetch_add(1, Ordering::SeqCst);
            }
            seen
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        while done.load(Ordering::SeqCst) < REQUESTS && clients.iter().any(|client| !client.is_finished()) {
            let began = Instant::now();
            assert_eq!(server.get("/health").status, 200);
            health.push(began.elapsed());
            memory.push((done.load(Ordering::SeqCst), server.rss()));
            thread::sleep(Duration::from_millis(10));
        }
        status = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    });
    assert_eq!(status.len(), REQUESTS);
    let count = |wanted: u16| status.iter().flatten().filter(|status| **status == wanted).count();
    let (cancelled, all) =
        (status.iter().filter(|status| status.is_none()).count(), count(200) + count(400) + count(503));
    assert_eq!(all + cancelled, REQUESTS, "{status:?}");
    assert!(count(200) > REQUESTS / 2, "{} answers", count(200));
    server.wait_until_idle();
    health.sort();
    let p99 = health[health.len() * 99 / 100];
    let half = memory.iter().find(|(done, _)| *done > REQUESTS / 4).unwrap().1;
    let end = server.rss();
    println!(
        "200: {}, 400: {}, 503: {}, cancelled {cancelled}; p99 of /health {p99:?}; {half} KiB, then {end} KiB",
        count(200),
        count(400),
        count(503)
    );
    assert!(end < half + (16 << 10), "memory grew from {half} to {end} KiB");
    assert!(p99 < Duration::from_secs(5), "{p99:?}");
}

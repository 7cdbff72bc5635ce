//! An HTTP proxy for CONNECT requests, which records their targets.

use super::http::{Connection, Reply};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running proxy. It stops when the test program ends.
pub(crate) struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy that works, or one that refuses every request with the status `refuse`.
    pub(crate) fn start(refuse: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                std::thread::spawn(move || tunnel(stream, &seen, refuse));
            }
        });
        Self { url, asked }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `HOST:PORT` of every CONNECT request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn tunnel(stream: TcpStream, seen: &Mutex<Vec<String>>, refuse: Option<u16>) {
    let mut client = Connection::new(stream);
    let Some(request) = client.request() else { return };
    assert_eq!(request.method, "CONNECT", "only tunnels");
    assert!(request.header("authorization").is_none(), "the token is not the proxy's");
    seen.lock().unwrap().push(request.path.clone());
    if let Some(status) = refuse {
        client.send(&Reply::new(status, Vec::new()), false);
        return;
    }
    let server = TcpStream::connect(&request.path).unwrap();
    let mut stream = client.into_stream();
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let (from, to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || pump(from, to));
    pump(server, stream);
}

fn pump(mut from: impl Read, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

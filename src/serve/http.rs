//! The HTTP side: accepts connections, checks every request, and drains at the end. One thread runs all of it; it only
//! passes bytes, so it answers `/health` at once while the engine computes.

use super::access_log::LogLine;
use super::cors;
use super::error::{ApiError, Face};
use super::lingering_close::{AllRead, LingeringClose, WatchedBody};
use super::routes::routes;
use super::server::Server;
use super::stall_guard::StallGuard;
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::stderr;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Open connections; more wait in the system's queue.
const CONNECTIONS_MAX: u32 = 512;
/// Time in which the headers of a request must arrive; an idle connection is closed after it, too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of the headers of a request.
const HEADERS_MAX: usize = 64 << 10;
/// How often a request to stop is checked.
const TICK: Duration = Duration::from_millis(100);

/// Serves until `interrupt` asks to stop, then lets the running requests finish within the time of the settings. Ends
/// at once if `engine_failed` is set.
pub(super) fn serve_http(
    server: &Arc<Server>,
    listeners: Vec<net::TcpListener>,
    interrupt: &Interrupt,
    engine_failed: &AtomicBool,
) -> Result<(), Failure> {
    let failed = |err: std::io::Error| Failure::machine(Code::Listen, format!("cannot serve: {err}"), "try again");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let stopping = || interrupt.asked().is_some() || engine_failed.load(Ordering::SeqCst);
    runtime.block_on(async {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
        let (drain, draining) = watch::channel(false);
        let mut accepting = Vec::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            let (server, connections, draining) = (server.clone(), connections.clone(), draining.clone());
            accepting.push(tokio::spawn(accept(listener, server, connections, draining)));
        }
        while !stopping() {
            sleep(TICK).await;
        }
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = drain.send(true);
        let open = CONNECTIONS_MAX as usize - connections.available_permits();
        if interrupt.asked().is_some() && open > 0 {
            let seconds = server.config.drain_timeout.as_secs();
            stderr::note(&format!("stopping; running requests have {seconds} seconds to finish"));
        }
        let all_closed = connections.acquire_many(CONNECTIONS_MAX);
        let wait = if engine_failed.load(Ordering::SeqCst) { TICK } else { server.config.drain_timeout };
        if timeout(wait, all_closed).await.is_err() {
            stderr::note("the time is over; the remaining requests were cancelled");
        }
        Ok(())
    })
}

/// Accepts connections until it is aborted.
async fn accept(
    listener: TcpListener,
    server: Arc<Server>,
    connections: Arc<Semaphore>,
    draining: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(routes(server.clone()));
    loop {
        let Ok(place) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (server, router, draining) = (server.clone(), router.clone(), draining.clone());
                tokio::spawn(async move {
                    connection(stream, peer, server, router, draining).await;
                    drop(place);
                });
            }
            // No free file descriptor, or a connection that was closed at once.
            Err(_) => sleep(TICK).await,
        }
    }
}

/// Serves one connection until it is closed.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    server: Arc<Server>,
    router: TowerToHyperService<Router>,
    mut draining: watch::Receiver<bool>,
) {
    // Without this, the system holds back the small pieces of a stream.
    let _ = stream.set_nodelay(true);
    let all_read = AllRead::default();
    let stream = LingeringClose::new(StallGuard::new(stream, peer), all_read.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, router) = (server.clone(), router.clone());
        let request = request.map(|body| WatchedBody::new(body, all_read.clone()));
        async move { Ok::<_, Infallible>(respond(&server, router, request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // An error is a client that closed the connection or sent something else than HTTP.
        _ = connection.as_mut() => return,
        _ = draining.wait_for(|draining| *draining) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Checks a request, and lets its route answer it.
async fn respond(
    server: &Server,
    router: TowerToHyperService<Router>,
    request: Request<WatchedBody>,
    peer: SocketAddr,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(peer);
    let line = LogLine::new(server.config.access_log, peer, &parts.method, &parts.uri);
    let face = Face::of(parts.uri.path());
    let access = &server.config.access;
    let origin = access.allowed_origin(&parts.headers).map(str::to_owned);
    let refused = access.check(&parts).err();
    let mut response = match (refused, &origin) {
        // A browser asks before it sends a request of another site; it does not send the key with it.
        (_, Some(_)) if parts.method == Method::OPTIONS => cors::preflight(),
        (Some(error), _) => error.response(face),
        (None, _) => {
            let answered = router.call(Request::from_parts(parts, Body::new(body))).await;
            let Ok(response) = answered;
            response
        }
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers_mut().remove(axum::http::header::ALLOW);
        response = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "use another method; see the header Allow",
        )
        .response(face);
        response.headers_mut().extend(allow.map(|allow| (axum::http::header::ALLOW, allow)));
    }
    if let Some(origin) = origin {
        cors::allow(&mut response, &origin);
    }
    server.stats.responded(response.status().as_u16());
    line.follow(response)
}

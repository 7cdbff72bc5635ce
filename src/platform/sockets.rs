//! Sockets that the parent opened (systemd's socket activation, sd_listen_fds(3)).

use std::io;
use std::net::TcpListener;

/// Takes the sockets that `LISTEN_FDS` announces; none on Windows. Call it before other threads start, because it removes the
/// variables.
///
/// # Errors
/// One of them is not a TCP socket that listens.
#[cfg(unix)]
pub(crate) fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    let mut inherited = listenfd::ListenFd::from_env();
    (0..inherited.len()).filter_map(|i| inherited.take_tcp_listener(i).transpose()).collect()
}

#[cfg(not(unix))]
pub(crate) fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    Ok(Vec::new())
}

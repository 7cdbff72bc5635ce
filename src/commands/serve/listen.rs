//! The sockets of the server: those of systemd's socket activation, or those of --host and --port.

use crate::error::{Code, Failure};
use crate::platform::inherited_listeners;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _};

/// Opens the sockets at `host` and `port`, or takes those that systemd opened. `check` may refuse their addresses.
pub(super) fn listen(
    host: &str,
    port: u16,
    check: impl FnOnce(&[SocketAddr]) -> Result<(), Failure>,
) -> Result<Vec<TcpListener>, Failure> {
    let failed = |err: std::io::Error| {
        let fix = "use ListenStream= with an address and a port in the .socket unit";
        Failure::machine(Code::Listen, format!("cannot use a socket of LISTEN_FDS: {err}"), fix)
    };
    let inherited = inherited_listeners().map_err(failed)?;
    if inherited.is_empty() {
        let addresses = addresses(host, port)?;
        check(&addresses)?;
        return open(&addresses);
    }
    let addresses: Result<Vec<SocketAddr>, _> = inherited.iter().map(TcpListener::local_addr).collect();
    check(&addresses.map_err(failed)?)?;
    inherited.iter().try_for_each(|listener| listener.set_nonblocking(true)).map_err(failed)?;
    Ok(inherited)
}

/// Returns the addresses of --host and --port.
fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let fix = "give an address of this machine, such as 127.0.0.1 or 0.0.0.0";
    let found = (bare, port)
        .to_socket_addrs()
        .map_err(|err| Failure::input(Code::Listen, format!("--host {bare} has no address: {err}"), fix))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Opens the addresses. With port 0, all of them get the port that the first one got.
fn open(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut first_error = None;
    for address in addresses {
        let port = listeners.first().and_then(|first| first.local_addr().ok()).map_or(address.port(), |at| at.port());
        let opened = TcpListener::bind(SocketAddr::new(address.ip(), port))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        match opened {
            Ok(listener) => listeners.push(listener),
            Err(err) => first_error = first_error.or(Some((address, err))),
        }
    }
    // A name such as localhost may have an IPv6 address where IPv6 is off.
    match first_error {
        Some((address, err)) if listeners.is_empty() => {
            let fix = "choose another --port, or --port 0 for a free one; check --host";
            Err(Failure::machine(Code::Listen, format!("cannot listen at {address}: {err}"), fix))
        }
        _ => Ok(listeners),
    }
}

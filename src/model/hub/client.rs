//! Sends one HTTP request and returns the response, with its body unread. Only this module uses ureq's client. The
//! token is sent only to the endpoint. `range_fetch.rs` follows redirects; `http_error.rs` maps statuses to errors.

use super::env::HubSettings;
use super::redirect_cache::RedirectCache;
use super::url::{origin, redacted};
use crate::error::{Code, Failure};
use crate::model::if_exists;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

/// Timeout for resolving a host, and for connecting to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which a body must deliver at least [`MIN_BYTES`].
const STALL_WINDOW: Duration = Duration::from_secs(60);

/// Minimum bytes of a body in each [`STALL_WINDOW`].
const MIN_BYTES: usize = 1024;

const USER_AGENT: &str = concat!("tulu-quant/", env!("CARGO_PKG_VERSION"));

/// A response whose body has not been read yet.
pub(super) struct Response {
    pub(super) status: u16,
    headers: HeaderMap,
    body: Box<dyn Read + Send>,
}

impl Response {
    /// Returns the text of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
    }

    /// Returns a header as a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.header(name).and_then(|text| text.parse().ok())
    }

    /// Returns the body.
    pub(super) fn body(&mut self) -> &mut dyn Read {
        &mut self.body
    }
}

/// The HTTP client; connections are kept open between requests.
pub(super) struct Client {
    settings: Arc<HubSettings>,
    https: Agent,
    http: Agent,
    /// The last redirect target of each file.
    pub(super) redirects: RedirectCache,
}

impl Client {
    pub(super) fn new(settings: &Arc<HubSettings>) -> Result<Self, Failure> {
        let tls = TlsConfig::builder().root_certs(roots()?).build();
        let agent = |proxy: Option<Proxy>| -> Agent {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(USER_AGENT)
                .accept_encoding("identity")
                .timeout_resolve(Some(CONNECT_TIMEOUT))
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(Some(settings.response_timeout))
                .timeout_per_read(Some(settings.read_timeout))
                .timeout_per_write(Some(settings.read_timeout))
                .proxy(proxy)
                .tls_config(tls.clone())
                .build()
                .into()
        };
        let https = agent(proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?);
        let http = agent(proxy(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?);
        Ok(Self { settings: settings.clone(), https, http, redirects: RedirectCache::default() })
    }

    /// Aborts all running requests.
    pub(super) fn shutdown(&self) {
        self.https.clone().shutdown();
        self.http.clone().shutdown();
    }

    /// Sends a GET request for `url`, with `range` (`bytes=0-99`) as its Range header.
    pub(super) fn get(&self, url: &Uri, range: Option<&str>) -> Result<Response, TransportError> {
        let agent = if url.scheme_str() == Some("https") { &self.https } else { &self.http };
        let mut request = agent.get(url);
        if let Some(value) = self.settings.authorization(url) {
            request = request.header("authorization", value);
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let (head, body) = request.call().map_err(|err| TransportError::from_ureq(&err, url))?.into_parts();
        let body = StallGuard::new(body.into_reader(), STALL_WINDOW);
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body: Box::new(body) })
    }
}

/// A body that fails when it is too slow. The read timeout does not catch a server that sends a byte now and then.
struct StallGuard<R> {
    body: R,
    window: Duration,
    since: Instant,
    bytes: usize,
}

impl<R: Read> StallGuard<R> {
    fn new(body: R, window: Duration) -> Self {
        Self { body, window, since: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for StallGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.body.read(buffer)?;
        self.bytes = self.bytes.saturating_add(read);
        if self.since.elapsed() >= self.window {
            if read > 0 && self.bytes < MIN_BYTES {
                let what = format!("{} bytes in {} s", self.bytes, self.window.as_secs());
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, what));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(read)
    }
}

/// Why there was no response, or why it was incomplete.
#[derive(Clone, Debug)]
pub(super) struct TransportError {
    pub(super) code: Code,
    pub(super) what: String,
    pub(super) fix: &'static str,
    /// Whether a retry may help.
    pub(super) transient: bool,
}

impl TransportError {
    fn from_ureq(err: &ureq::Error, url: &Uri) -> Self {
        use std::io::ErrorKind;
        use ureq::Error as E;
        const REACH: &str = "check the network, HF_ENDPOINT and the proxy variables, then run it again";
        const TLS: &str = "check the clock, and SSL_CERT_FILE where a company's own certificates are used";
        let host = origin(url);
        let (code, what, fix, transient) = match err {
            E::HostNotFound => (Code::HubConnect, format!("cannot resolve {host}"), REACH, true),
            E::ConnectProxyFailed(why) => {
                (Code::HubProxy, format!("the proxy cannot connect to {host}: {why}"), PROXY_FIX, true)
            }
            E::InvalidProxyUrl => (Code::HubProxy, "the proxy's address is not valid".to_owned(), PROXY_FIX, false),
            E::Tls(_) | E::Rustls(_) | E::Pem(_) | E::TlsRequired => {
                (Code::HubTls, format!("TLS connection to {host} failed: {err}"), TLS, false)
            }
            // rustls reports its errors as I/O errors
            E::Io(why) if why.kind() == ErrorKind::InvalidData && url.scheme_str() == Some("https") => {
                (Code::HubTls, format!("TLS connection to {host} failed: {why}"), TLS, false)
            }
            E::Timeout(which) => (Code::HubTimeout, format!("{host} timed out ({which})"), REACH, true),
            E::Io(why) => (Code::HubConnect, format!("cannot connect to {host}: {why}"), REACH, true),
            _ => (Code::HubAnswer, format!("{host} sent an invalid HTTP response: {err}"), REACH, true),
        };
        Self { code, what, fix, transient }
    }

    /// Creates the error of a connection lost while a body was read.
    pub(super) fn disconnected(err: &std::io::Error, url: &Uri, got: u64, wanted: u64) -> Self {
        let what = format!("lost the connection to {} after {got} of {wanted} bytes: {err}", origin(url));
        Self { code: Code::HubCut, what, fix: "run it again to resume", transient: true }
    }

    /// Creates the error of a connection lost while a listing was read. No part of a listing is kept.
    pub(super) fn listing_disconnected(err: &std::io::Error, url: &Uri, got: usize) -> Self {
        let what = format!("lost the connection to {} after {got} bytes of the listing: {err}", origin(url));
        Self { code: Code::HubCut, what, fix: "run it again", transient: true }
    }
}

const PROXY_FIX: &str = "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY";

/// Returns the proxy that the first set variable of `names` gives, with NO_PROXY's exceptions.
fn proxy(names: &[&str]) -> Result<Option<Proxy>, Failure> {
    let set = |name: &&str| std::env::var(name).ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
    let Some((name, address)) = names.iter().find_map(|name| Some((name, set(name)?))) else { return Ok(None) };
    let bad = |_| {
        let what = format!("{name} is '{}', which is not a proxy address", redacted(&address));
        Failure::input(Code::HubProxy, what, "write it like http://proxy:3128")
    };
    let given = Proxy::new(&address).map_err(bad)?;
    let mut proxy = Proxy::builder(given.protocol()).host(given.host()).port(given.port());
    if let Some(user) = given.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = given.password() {
        proxy = proxy.password(password);
    }
    if let Some(exceptions) = ["NO_PROXY", "no_proxy"].iter().find_map(set) {
        proxy = proxy.no_proxy(&exceptions);
    }
    proxy.build().map(Some).map_err(bad)
}

/// Returns the trusted certificates: those in the files that environment variables name; otherwise the system's;
/// otherwise, such as in a container without any, Mozilla's, which are built in.
fn roots() -> Result<RootCerts, Failure> {
    let mut named = Vec::new();
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        let Some(file) = std::env::var_os(name).filter(|file| !file.is_empty()) else { continue };
        let file = Path::new(&file);
        // a folder or a missing file is ignored here; the system's certificates are used
        let Some(pem) = if_exists::is_file(file)?.then(|| if_exists::read(file)).transpose()?.flatten() else {
            continue;
        };
        named.extend(ureq::tls::parse_pem(&pem).filter_map(Result::ok).filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        }));
    }
    if !named.is_empty() {
        return Ok(named.into());
    }
    let places = ["/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/pki/tls/certs", "/etc/ssl/ca-bundle.pem"];
    let filled = |place: &&str| {
        let place = Path::new(place);
        place.is_file() || std::fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some())
    };
    let system = cfg!(not(target_os = "linux")) || std::env::var_os("SSL_CERT_DIR").is_some();
    Ok(if system || places.iter().any(filled) { RootCerts::PlatformVerifier } else { RootCerts::WebPki })
}

#[cfg(test)]
mod tests {
    use super::{Duration, MIN_BYTES, StallGuard};
    use std::io::Read as _;

    #[test]
    fn a_body_that_is_too_slow_fails() {
        let mut text = String::new();
        let full = vec![b'x'; 100_000];
        assert!(StallGuard::new(&full[..], Duration::from_secs(60)).read_to_string(&mut text).is_ok());
        let slow = StallGuard::new(&full[..], Duration::ZERO).take(100_000).read_exact(&mut [0; 8]);
        assert_eq!(slow.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(StallGuard::new(&full[..], Duration::ZERO).read(&mut [0; MIN_BYTES]).unwrap(), MIN_BYTES);
    }
}

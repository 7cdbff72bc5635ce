//! Who may send requests: the API key, the Host header (DNS rebinding) and the Origin header (pages of other sites).
//!
//! A page of another site can make a browser send requests to this machine. Its requests carry the page's `Origin`. With
//! DNS rebinding the browser takes this server for the page's own, and `Host` has the page's name. Both are refused. An
//! address such as `127.0.0.1` in `Host` cannot come from rebinding, because that needs a name.

use super::error::ApiError;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, Version};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// Paths that need no key.
const PUBLIC: [&str; 5] = ["/", "/page/style.css", "/page/app.js", "/page/markdown.js", "/health"];

/// The rules.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// SHA-256 of the API keys; empty: no key is needed. Equal lengths make the comparison independent of the keys.
    keys: Vec<[u8; 32]>,
    /// Names of this server in `Host`, in lower case, besides addresses and `localhost`.
    hosts: Vec<String>,
    /// Origins of other sites that may send requests; `*`: all.
    origins: Vec<String>,
}

impl Access {
    /// Creates the rules; see the fields.
    pub(crate) fn new(keys: &[String], hosts: &[String], origins: &[String]) -> Self {
        Self {
            keys: keys.iter().map(|key| Sha256::digest(key).into()).collect(),
            hosts: hosts.iter().map(|host| host.to_lowercase()).collect(),
            origins: origins.iter().map(|origin| origin.trim_end_matches('/').to_lowercase()).collect(),
        }
    }

    /// Refuses a request that breaks a rule.
    pub(super) fn check(&self, request: &Parts) -> Result<(), ApiError> {
        self.check_host(request)?;
        self.check_origin(&request.headers)?;
        if PUBLIC.contains(&request.uri.path()) || self.has_right_key(&request.headers) {
            return Ok(());
        }
        let message = match request.headers.contains_key(AUTHORIZATION) {
            true => "the API key is wrong",
            false => "an API key is needed: send the header 'Authorization: Bearer KEY'",
        };
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
    }

    fn has_right_key(&self, headers: &HeaderMap) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let Some(given) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else { return false };
        let given: [u8; 32] = Sha256::digest(given).into();
        // Every key is compared, so that the time does not tell which one is close.
        let found = self.keys.iter().map(|key| key.ct_eq(&given).unwrap_u8()).fold(0, |any, one| any | one);
        found == 1
    }

    fn check_host(&self, request: &Parts) -> Result<(), ApiError> {
        let headers: Vec<_> = request.headers.get_all(HOST).iter().collect();
        let in_uri = request.uri.authority().map(|authority| authority.as_str());
        let hosts = match headers.as_slice() {
            [] if request.version < Version::HTTP_11 => None,
            [one] => Some(one.to_str().unwrap_or("?")),
            _ => return Err(ApiError::bad_request("invalid_host", "the request needs one Host header")),
        };
        match hosts.into_iter().chain(in_uri).all(|host| self.is_our_host(host)) {
            true => Ok(()),
            false => {
                let message = "the Host header has a name that is not this server's; --allowed-host adds one";
                Err(ApiError::new(StatusCode::FORBIDDEN, "invalid_host", message))
            }
        }
    }

    fn is_our_host(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.').to_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        address.parse::<IpAddr>().is_ok() || name == "localhost" || self.hosts.contains(&name)
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(origin) = headers.get(ORIGIN).map(|value| value.to_str().unwrap_or("null")) else { return Ok(()) };
        let origin = origin.to_lowercase();
        // Other schemes belong to programs such as an editor, not to pages.
        let from_page = origin == "null" || origin.starts_with("http://") || origin.starts_with("https://");
        let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let own = origin.split_once("://").is_some_and(|(_, site)| site.eq_ignore_ascii_case(host));
        if !from_page || own || self.allowed_origin(headers).is_some() {
            return Ok(());
        }
        let message = "requests from pages of other sites are off; --cors ORIGIN allows one";
        Err(ApiError::new(StatusCode::FORBIDDEN, "invalid_origin", message))
    }

    /// Returns the origin of the request if `--cors` allows it.
    pub(super) fn allowed_origin<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let origin = headers.get(HeaderName::from_static("origin"))?.to_str().ok()?;
        let allowed = |known: &String| known == "*" || known.eq_ignore_ascii_case(origin);
        self.origins.iter().any(allowed).then_some(origin)
    }
}

/// Returns the key of an Authorization header with the scheme Bearer.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

/// Returns a host without its port.
fn without_port(host: &str) -> &str {
    let end = host.rfind(']').map_or(0, |at| at + 1);
    host[end..].find(':').map_or(host, |at| &host[..end + at])
}

#[cfg(test)]
mod tests {
    use super::Access;
    use axum::http::Request;

    fn status(access: &Access, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let refused = access.check(&parts).err();
        refused.map_or(200, |error| error.response(super::super::error::Face::OpenAi).status().as_u16())
    }

    #[test]
    fn only_names_of_this_server_are_hosts() {
        let access = Access::new(&[], &["Laptop.local".to_owned()], &[]);
        let host = |host: &str| status(&access, "/v1/models", &[("host", host)]);
        for good in
            ["localhost", "LOCALHOST:80", "localhost.:1", "127.0.0.1:8080", "[::1]:8080", "10.0.0.7", "laptop.local:1"]
        {
            assert_eq!(host(good), 200, "{good}");
        }
        for bad in ["evil", "evil:8080", "127.0.0.1.evil.com", "localhost.evil", "", "[::1", "evil@localhost"] {
            assert_eq!(host(bad), 403, "{bad}");
        }
        assert_eq!(status(&access, "/v1/models", &[]), 400);
        assert_eq!(status(&access, "/v1/models", &[("host", "localhost"), ("host", "evil")]), 400);
        assert_eq!(status(&access, "http://evil/v1/models", &[("host", "localhost")]), 403);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let access = Access::new(&[], &[], &["https://good.example/".to_owned()]);
        let from = |origin: &str| status(&access, "/health", &[("host", "localhost:8080"), ("origin", origin)]);
        for good in ["http://localhost:8080", "https://good.example", "vscode-file://vscode-app", "app://obsidian.md"] {
            assert_eq!(from(good), 200, "{good}");
        }
        for bad in ["http://evil.example", "http://localhost:9", "null", "https://good.example.evil"] {
            assert_eq!(from(bad), 403, "{bad}");
        }
    }

    #[test]
    fn every_byte_of_the_key_counts() {
        let access = Access::new(&["secret-key".to_owned(), "other".to_owned()], &[], &[]);
        let with = |key: &str| status(&access, "/v1/models", &[("host", "localhost"), ("authorization", key)]);
        for good in ["Bearer secret-key", "bearer secret-key", "Bearer other"] {
            assert_eq!(with(good), 200, "{good}");
        }
        for bad in [
            "Bearer secret-kez",
            "Bearer secret-ke",
            "Bearer secret-keyy",
            "Bearer ",
            "secret-key",
            "Basic secret-key",
            "",
        ] {
            assert_eq!(with(bad), 401, "{bad}");
        }
        assert_eq!(status(&access, "/v1/models", &[("host", "localhost")]), 401);
        assert_eq!(status(&access, "/health", &[("host", "localhost")]), 200);
    }
}

//! Addresses: where a redirect leads, and whether two of them are the same place.

use ureq::http::Uri;

/// `http://…` or `https://…` with a host.
pub(super) fn is_web(url: &Uri) -> bool {
    matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
}

/// Scheme, host and port agree: the only place a token for one may go to when asked for the other.
pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let host = |url: &Uri| url.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

fn port(url: &Uri) -> Option<u16> {
    url.port_u16().or(match url.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

/// Where the `Location` of an answer from `from` leads; `None` when that is no web address, or leaves https for http.
pub(super) fn target(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let text = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let to = text.parse::<Uri>().ok().filter(is_web)?;
    let weaker = scheme == "https" && to.scheme_str() == Some("http");
    (!weaker).then_some(to)
}

/// Scheme, host and port, for messages: the rest of an address may be a signature, what stands before `@` a password.
pub(super) fn place(url: &Uri) -> String {
    let port = url.port_u16().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme_str().unwrap_or("?"), url.host().unwrap_or("?"))
}

/// An address from the environment, for messages: without user name and password.
pub(super) fn shown(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        (None, Some((_, rest))) => format!("…@{rest}"),
        (_, None) => address.to_owned(),
    }
}

/// One part of a path, percent-encoded.
pub(super) fn encode(part: &str, out: &mut String) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            *out += &format!("%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Uri, encode, same_origin, shown, target};

    fn url(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from = url("https://hub.example/o/n/resolve/main/a.bin");
        for (location, to) in [
            ("https://cdn.example:444/x?y=1", Some("https://cdn.example:444/x?y=1")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("/api/x", Some("https://hub.example/api/x")),
            ("b.bin", Some("https://hub.example/o/n/resolve/main/b.bin")),
            ("http://cdn.example/x", None),
            ("ftp://cdn.example/x", None),
            ("https://", None),
        ] {
            assert_eq!(target(&from, location), to.map(url), "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let base = url("https://Hub.example");
        assert!(same_origin(&url("https://hub.example:443/x"), &base));
        for other in ["http://hub.example/", "https://hub.example:444/", "https://hub.example.evil/", "https://evil/"] {
            assert!(!same_origin(&url(other), &base), "{other}");
        }
    }

    #[test]
    fn passwords_are_not_shown_and_paths_are_encoded() {
        assert_eq!(shown("http://me:secret@proxy:3128"), "http://…@proxy:3128");
        assert_eq!(shown("me:secret@proxy"), "…@proxy");
        let mut out = String::new();
        encode("refs/pr 1", &mut out);
        assert_eq!(out, "refs%2Fpr%201");
    }
}

//! URLs: redirect targets, origins, percent-encoding, and the form of a URL in messages.

use ureq::http::Uri;

/// Returns whether `url` is http or https and has a host. A port, if given, must be valid.
pub(super) fn is_http_url(url: &Uri) -> bool {
    let Some(host) = url.host().filter(|host| !host.is_empty()) else { return false };
    let place = url.authority().map_or("", |all| all.as_str());
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let port = place.strip_prefix(host).and_then(|port| port.strip_prefix(':')).unwrap_or_default();
    matches!(url.scheme_str(), Some("http" | "https")) && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Returns whether scheme, host and port are the same. Only then may a token for one URL be sent to the other.
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

/// Resolves the `Location` header of a response from `from`. `None` if the target is not http or https, or if it is
/// http and `from` is https. A scheme ends at a colon before any `/`, `?` and `#` (RFC 3986, section 4.2).
pub(super) fn redirect_target(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let first = location.find([':', '/', '?', '#']).and_then(|at| location.get(at..)?.chars().next());
    let text = if first == Some(':') {
        location.to_owned()
    } else if location.is_empty() {
        return None;
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with(['?', '#']) {
        format!("{scheme}://{authority}{}{location}", from.path())
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let to = text.parse::<Uri>().ok().filter(is_http_url)?;
    let weaker = scheme == "https" && to.scheme_str() == Some("http");
    (!weaker).then_some(to)
}

/// Returns scheme, host and port, for messages: the rest of a URL may contain a signature or a password.
pub(super) fn origin(url: &Uri) -> String {
    let port = url.port_u16().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme_str().unwrap_or("?"), url.host().unwrap_or("?"))
}

/// Returns a URL from the environment without user name, password and query, for messages. Also accepts invalid URLs,
/// such as `http://me:secret` without a host.
pub(super) fn redacted(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("…@", rest));
    let (rest, query) = rest.find(['?', '#']).map_or((rest, ""), |at| (rest.get(..at).unwrap_or_default(), "?…"));
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let host = match host.rsplit_once(':') {
        Some((name, end)) if !port(end) && !end.ends_with(']') => format!("{}:…", name.split(':').next().unwrap_or("")),
        _ => host.to_owned(),
    };
    let colon = if address.contains("://") { "://" } else { "" };
    format!("{scheme}{colon}{user}{host}{path}{query}")
}

/// Removes user name and password from a URL. Returns the rest, and `user:password` if there is one.
pub(super) fn split_userinfo(address: &str) -> (String, Option<String>) {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    // a password may contain a slash that is not encoded, so it ends at the last @
    let Some((user, host)) = rest.rsplit_once('@') else { return (address.to_owned(), None) };
    let colon = if scheme.is_empty() { "" } else { "://" };
    (format!("{scheme}{colon}{host}"), Some(user.to_owned()))
}

/// Percent-decodes `text`.
pub(crate) fn percent_decode(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|d| *byte == b'%' && d.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|d| u8::from_str_radix(str::from_utf8(d).ok()?, 16).ok());
        out.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes one part of a path, and appends it to `out`.
pub(super) fn percent_encode(part: &str, out: &mut String) {
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
    use super::{Uri, percent_decode, percent_encode, redacted, redirect_target, same_origin, split_userinfo};

    fn url(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn redirect_targets_are_resolved() {
        let from = url("https://hub.example/o/n/resolve/main/a.bin");
        for (location, to) in [
            ("https://cdn.example:444/x?y=1", Some("https://cdn.example:444/x?y=1")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("/api/x", Some("https://hub.example/api/x")),
            ("b.bin", Some("https://hub.example/o/n/resolve/main/b.bin")),
            ("http://cdn.example/x", None),
            ("ftp://cdn.example/x", None),
            ("https://", None),
            ("", None),
            ("mailto:me@x", None),
            ("https:cdn.example/x", None),
            ("https://cdn.example:port/x", None),
            // a colon elsewhere does not end a scheme
            ("/api/x?from=https://x/", Some("https://hub.example/api/x?from=https://x/")),
            ("b.bin?from=ftp://x/", Some("https://hub.example/o/n/resolve/main/b.bin?from=ftp://x/")),
            ("/a:b/c", Some("https://hub.example/a:b/c")),
            ("?x=https://y", Some("https://hub.example/o/n/resolve/main/a.bin?x=https://y")),
            ("//cdn.example/x?y=a://b", Some("https://cdn.example/x?y=a://b")),
            ("HTTPS://cdn.example/x", Some("https://cdn.example/x")),
        ] {
            assert_eq!(redirect_target(&from, location), to.map(url), "{location}");
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
        for (address, wanted) in [
            ("http://me:secret@proxy:3128", "http://…@proxy:3128"),
            ("me:secret@proxy", "…@proxy"),
            ("http://me:se@cr/et@proxy/x", "http://…@proxy/x"),
            ("http://me:se?cret@proxy", "http://…@proxy"),
            ("http://me:secret", "http://me:…"),
            ("http://me:secret/x", "http://me:…/x"),
            ("me:sec:ret", "me:…"),
            ("https://mirror/hf?token=secret", "https://mirror/hf?…"),
            ("https://mirror/hf#secret", "https://mirror/hf?…"),
            ("http://[::1]:80/x", "http://[::1]:80/x"),
            ("http://[::1]", "http://[::1]"),
            ("https://huggingface.co", "https://huggingface.co"),
            ("huggingface.co", "huggingface.co"),
        ] {
            assert_eq!(redacted(address), wanted);
        }
        assert_eq!(split_userinfo("http://a:b@c:1/d"), ("http://c:1/d".to_owned(), Some("a:b".to_owned())));
        assert_eq!(split_userinfo("http://c:1/d"), ("http://c:1/d".to_owned(), None));
        assert_eq!(percent_decode("a%40b%zz%e2%82%ac%"), "a@b%zz€%");
        let mut out = String::new();
        percent_encode("refs/pr 1", &mut out);
        assert_eq!(out, "refs%2Fpr%201");
    }
}

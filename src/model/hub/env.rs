//! Settings from the environment variables of `huggingface_hub`. They have the same meaning here.

use super::cache_layout::HubCache;
use super::secrets::{Secrets, base64};
use super::url;
use crate::error::{Code, Failure};
use crate::model::if_exists;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::Uri;

/// The Hub when HF_ENDPOINT names no mirror.
const ENDPOINT: &str = "https://huggingface.co";

/// Default number of tries without progress before a request fails.
const TRIES: u32 = 5;

/// A secret; it cannot be printed.
#[derive(Clone)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The settings of the Hub.
#[derive(Clone, Debug)]
pub(crate) struct HubSettings {
    /// HF_ENDPOINT, without a slash at its end, and without user name and password.
    pub(crate) endpoint: String,
    /// User name and password of HF_ENDPOINT, in base64, for the Authorization header.
    basic: Option<Token>,
    /// Secrets that no message may contain.
    secrets: Secrets,
    /// The endpoint, parsed.
    pub(super) base: Uri,
    /// HF_TOKEN, the file HF_TOKEN_PATH, or `$HF_HOME/token`.
    pub(crate) token: Option<Token>,
    /// The cache that is shared with `huggingface_hub`.
    pub(crate) cache: HubCache,
    /// HF_HUB_OFFLINE: the network is not used.
    pub(crate) offline: bool,
    /// HF_HUB_ETAG_TIMEOUT: timeout for the head of a response.
    pub(super) response_timeout: Duration,
    /// HF_HUB_DOWNLOAD_TIMEOUT: timeout for each read of a body.
    pub(super) read_timeout: Duration,
    /// TULU_QUANT_HUB_TRIES: tries without progress before a request fails.
    pub(super) tries: u32,
}

impl HubSettings {
    /// Reads the environment.
    ///
    /// # Errors
    /// `HUB_ENDPOINT`, `HUB_TOKEN` or `USAGE` for a variable that cannot be used.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let given = endpoint_given();
        let (endpoint, user) = url::split_userinfo(&given);
        let parsed = endpoint.parse::<Uri>().ok().filter(|url| url::is_http_url(url) && !endpoint.contains(['?', '#']));
        let base = parsed.ok_or_else(|| {
            let what = format!("HF_ENDPOINT is '{}', which is not an http or https URL", url::redacted(&given));
            Failure::input(Code::HubEndpoint, what, "set it to something like https://huggingface.co, or unset it")
        })?;
        let token = token(&home()?)?;
        let mut secrets = Secrets::default();
        token.iter().for_each(|token| secrets.add(&token.0));
        let proxies = Self::proxies().into_iter().filter_map(text);
        let users = proxies.filter_map(|address| url::split_userinfo(&address).1).chain(user.clone());
        for user in users {
            // a user name alone may be a token
            let password = user.split_once(':').map_or(user.as_str(), |(_, password)| password);
            secrets.add(password);
            secrets.add(&url::percent_decode(password));
        }
        Ok(Self {
            endpoint,
            basic: user.map(|user| Token(base64(url::percent_decode(&user).as_bytes(), false))),
            secrets,
            base,
            token,
            cache: Self::cache_from_env()?,
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            response_timeout: seconds("HF_HUB_ETAG_TIMEOUT", 10)?,
            read_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT", 20)?,
            tries: u32::try_from(number("TULU_QUANT_HUB_TRIES", u64::from(TRIES))?.max(1)).unwrap_or(TRIES),
        })
    }

    /// Finds the cache that `huggingface_hub` shares; needs neither an endpoint nor a token.
    pub(crate) fn cache_from_env() -> Result<HubCache, Failure> {
        match ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].into_iter().find_map(path) {
            Some(cache) => Ok(HubCache(cache)),
            None => Ok(HubCache(home()?.join("hub"))),
        }
    }

    /// Returns whether a token or password is sent to a non-local endpoint over plain HTTP.
    pub(crate) fn sends_secret_unencrypted(&self) -> bool {
        let host = self.base.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        let loopback = host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
        let secret = self.token.is_some() || self.basic.is_some();
        secret && self.base.scheme_str() == Some("http") && !loopback
    }

    /// Returns the names of the proxy variables that are set; their values may contain passwords.
    pub(crate) fn proxies() -> Vec<&'static str> {
        let names = [
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
            "NO_PROXY",
            "no_proxy",
        ];
        names.into_iter().filter(|name| text(name).is_some()).collect()
    }

    /// Returns the Authorization header for a request to `url`: the token, or else the user name and password of
    /// HF_ENDPOINT. `None` unless `url` has the origin of the endpoint.
    pub(super) fn authorization(&self, url: &Uri) -> Option<String> {
        let token = self.token.as_ref().map(|token| format!("Bearer {}", token.0));
        let given = token.or_else(|| Some(format!("Basic {}", self.basic.as_ref()?.0)));
        given.filter(|_| url::same_origin(url, &self.base))
    }

    /// Removes secrets from a text that a server sent, then shortens it for a message.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.secrets.hide(text).chars().take(300).collect()
    }

    /// Removes secrets from a failure, and shortens it.
    pub(super) fn redact(&self, failure: Failure) -> Failure {
        let what = self.secrets.hide(&failure.what).chars().take(1000).collect();
        Failure { what, fix: self.secrets.hide(&failure.fix), ..failure }
    }

    /// Returns whether `text` contains a secret.
    pub(super) fn contains_secret(&self, text: &str) -> bool {
        self.secrets.are_contained_in(text)
    }
}

/// Returns HF_ENDPOINT or else the Hub, without a slash at its end.
fn endpoint_given() -> String {
    text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim_end_matches('/').to_owned()
}

/// Returns host, port and path of HF_ENDPOINT, such as `mirror.example:8080/hf`.
pub(crate) fn endpoint_address() -> String {
    let (endpoint, _) = url::split_userinfo(&endpoint_given());
    endpoint.split_once("://").map_or(endpoint.clone(), |(_, place)| place.to_owned())
}

/// Returns the trimmed value of a variable; `None` when it is unset or empty.
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    match value.to_str().and_then(|text| text.strip_prefix("~/")) {
        Some(rest) => user_home().map(|home| home.join(rest)),
        None => Some(value.into()),
    }
}

fn user_home() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned())
}

/// Returns `$HF_HOME`, `$XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface`, on every system, as in
/// `huggingface_hub`.
fn home() -> Result<PathBuf, Failure> {
    let home = path("HF_HOME")
        .or_else(|| path("XDG_CACHE_HOME").map(|dir| dir.join("huggingface")))
        .or_else(|| user_home().map(|dir| dir.join(".cache/huggingface")));
    home.ok_or_else(|| {
        Failure::machine(Code::HubCache, "there is no home folder for downloads", "set HF_HOME to a folder")
    })
}

/// Returns whether a variable has a value that means true in `huggingface_hub`.
fn is_on(name: &str) -> bool {
    text(name).is_some_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

fn number(name: &str, default: u64) -> Result<u64, Failure> {
    let Some(value) = text(name) else { return Ok(default) };
    value.parse().map_err(|_| {
        let what = format!("{name} is '{value}', which is not a whole number");
        Failure::input(Code::Usage, what, "set it to a number, or unset it")
    })
}

fn seconds(name: &str, default: u64) -> Result<Duration, Failure> {
    number(name, default).map(|n| Duration::from_secs(n.clamp(1, 86_400)))
}

fn token(home: &std::path::Path) -> Result<Option<Token>, Failure> {
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let given = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(text);
    let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
    let found = match given {
        Some(token) => Some(token),
        None => if_exists::read(&file)
            .map_err(|failure| Failure { code: Code::HubToken, ..failure })?
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()),
    };
    let Some(token) = found.filter(|token| !token.is_empty()) else { return Ok(None) };
    if token.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(Some(Token(token)))
    } else {
        let what = "the Hub token contains invalid characters";
        Err(Failure::input(Code::HubToken, what, "copy it again from https://huggingface.co/settings/tokens"))
    }
}

//! The environment variables that `huggingface_hub` reads, with its meaning of them.

use super::CacheDir;
use super::redirect;
use crate::error::Failure;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::Uri;

/// The Hub when HF_ENDPOINT names no mirror.
const ENDPOINT: &str = "https://huggingface.co";

/// Tries without any progress before a transfer is given up.
const TRIES: u32 = 5;

/// A secret: there is no way to print it.
#[derive(Clone)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Token {
    /// The value of the Authorization header.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` without the token, should a server have sent it back.
    pub(super) fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "(token)")
    }
}

/// What the environment says about the Hub.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// HF_ENDPOINT, without a slash at its end.
    pub(crate) endpoint: String,
    /// The same, parsed.
    pub(super) base: Uri,
    /// HF_TOKEN, the file HF_TOKEN_PATH, or `$HF_HOME/token`.
    pub(crate) token: Option<Token>,
    /// The cache that is shared with `huggingface_hub`.
    pub(crate) cache: CacheDir,
    /// HF_HUB_OFFLINE: nothing is asked of the network.
    pub(crate) offline: bool,
    /// HF_HUB_ETAG_TIMEOUT: how long the answer to a request may take to begin.
    pub(super) answer_timeout: Duration,
    /// HF_HUB_DOWNLOAD_TIMEOUT: how long a body may be silent.
    pub(super) read_timeout: Duration,
    /// TULU_QUANT_HUB_TRIES: tries without any progress before a transfer is given up.
    pub(super) tries: u32,
}

impl Settings {
    /// Reads them; says which one cannot be used.
    pub(crate) fn from_env() -> Result<Self, Failure> {
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim_end_matches('/').to_owned();
        let parsed = endpoint.parse::<Uri>().ok().filter(redirect::is_web);
        let base = parsed.ok_or_else(|| {
            let what = format!("HF_ENDPOINT is '{}', which is no http or https address", redirect::shown(&endpoint));
            Failure::input("HUB_ENDPOINT", what, "set it to something like https://huggingface.co, or unset it")
        })?;
        let home = home()?;
        let cache = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].into_iter().find_map(path);
        Ok(Self {
            endpoint,
            base,
            token: token(&home)?,
            cache: CacheDir(cache.unwrap_or_else(|| home.join("hub"))),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            answer_timeout: seconds("HF_HUB_ETAG_TIMEOUT", 10)?,
            read_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT", 20)?,
            tries: u32::try_from(number("TULU_QUANT_HUB_TRIES", u64::from(TRIES))?.max(1)).unwrap_or(TRIES),
        })
    }

    /// The endpoint, for messages: without a password that stands in it.
    pub(crate) fn endpoint_shown(&self) -> String {
        redirect::shown(&self.endpoint)
    }

    /// Whether what is sent to the endpoint can be read on the way.
    pub(crate) fn in_the_clear(&self) -> bool {
        let host = self.base.host().unwrap_or_default();
        self.base.scheme_str() == Some("http") && !(host == "localhost" || host.starts_with("127.") || host == "[::1]")
    }

    /// Names of the proxy variables that are set; their values may hold passwords.
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

    /// The token, where requests to `url` may carry it: at the endpoint itself, and nowhere else.
    pub(super) fn token_for(&self, url: &Uri) -> Option<&Token> {
        self.token.as_ref().filter(|_| redirect::same_origin(url, &self.base))
    }

    /// Text from a server, on its way to the user.
    pub(super) fn scrub(&self, text: &str) -> String {
        let short: String = text.chars().take(300).collect();
        self.token.as_ref().map_or(short.clone(), |token| token.scrub(&short))
    }
}

/// A variable that is set to something.
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

/// `$HF_HOME`, `$XDG_CACHE_HOME/huggingface`, `~/.cache/huggingface`: on every system, as `huggingface_hub` has it.
fn home() -> Result<PathBuf, Failure> {
    let home = path("HF_HOME")
        .or_else(|| path("XDG_CACHE_HOME").map(|dir| dir.join("huggingface")))
        .or_else(|| user_home().map(|dir| dir.join(".cache/huggingface")));
    home.ok_or_else(|| {
        Failure::machine("HUB_CACHE", "there is no home folder to keep downloads in", "set HF_HOME to a folder")
    })
}

/// What counts as yes in `huggingface_hub`.
fn is_on(name: &str) -> bool {
    text(name).is_some_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
}

fn number(name: &str, default: u64) -> Result<u64, Failure> {
    let Some(value) = text(name) else { return Ok(default) };
    value.parse().map_err(|_| {
        Failure::input("USAGE", format!("{name} is '{value}', which is no whole number"), "set it to one, or unset it")
    })
}

fn seconds(name: &str, default: u64) -> Result<Duration, Failure> {
    number(name, default).map(|n| Duration::from_secs(n.max(1)))
}

fn token(home: &std::path::Path) -> Result<Option<Token>, Failure> {
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let given = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(text);
    let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
    let found = given.or_else(|| std::fs::read_to_string(file).ok().map(|t| t.trim().to_owned()));
    let Some(token) = found.filter(|token| !token.is_empty()) else { return Ok(None) };
    if token.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(Some(Token(token)))
    } else {
        let what = "the Hub token has characters in it that no token has";
        Err(Failure::input("HUB_TOKEN", what, "copy it again from https://huggingface.co/settings/tokens"))
    }
}

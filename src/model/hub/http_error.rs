//! Maps HTTP errors to failures with a hint, and decides which requests can be retried.

use super::client::{Response, TransportError};
use super::env::HubSettings;
use super::url::origin;
use crate::error::{Code, Failure};
use std::time::Duration;
use ureq::http::Uri;

/// A failed request.
pub(super) enum RequestError {
    /// A retry does not help.
    Permanent(Failure),
    /// A retry may help. Has the failure to report if it does not, and the server's Retry-After.
    Transient(Failure, Option<Duration>),
}

impl RequestError {
    /// Removes secrets from the failure.
    pub(super) fn redact(self, settings: &HubSettings) -> Self {
        match self {
            Self::Permanent(failure) => Self::Permanent(settings.redact(failure)),
            Self::Transient(failure, wait) => Self::Transient(settings.redact(failure), wait),
        }
    }
}

impl From<TransportError> for RequestError {
    fn from(fault: TransportError) -> Self {
        let failure = Failure::machine(fault.code, fault.what, fault.fix);
        if fault.transient { Self::Transient(failure, None) } else { Self::Permanent(failure) }
    }
}

/// The requested repository and file, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestInfo<'a> {
    /// `owner/name`.
    pub(super) id: &'a str,
    /// Branch, tag or commit.
    pub(super) revision: &'a str,
    /// The path of a file; `None` for a listing.
    pub(super) file: Option<&'a str>,
}

impl RequestInfo<'_> {
    /// Returns `owner/name` or `owner/name/file`.
    fn name(&self) -> String {
        self.file.map_or_else(|| self.id.to_owned(), |file| format!("{}/{file}", self.id))
    }

    fn permanent(&self, code: Code, what: impl Into<String>, fix: impl Into<String>) -> RequestError {
        RequestError::Permanent(Failure::input(code, what, fix).at(self.name()))
    }

    fn transient(&self, code: Code, response: &Response, what: String, fix: &str) -> RequestError {
        let wait = response.number("retry-after").map(Duration::from_secs);
        RequestError::Transient(Failure::machine(code, what, fix).at(self.name()), wait)
    }

    /// Creates the error for a response that violates the protocol. It is transient: the next response may be right.
    pub(super) fn invalid_response(&self, url: &Uri, what: &str) -> RequestError {
        let what = format!("unexpected response from {}: {what}", origin(url));
        let fix = match self.file {
            Some(_) => "check HF_ENDPOINT and the proxy; the file was not used",
            None => "check HF_ENDPOINT and the proxy",
        };
        RequestError::Transient(Failure::machine(Code::HubAnswer, what, fix).at(self.name()), None)
    }

    /// Creates the error for the status of `response`. `signed`: `url` is a URL that the Hub redirected to.
    pub(super) fn error_of(
        &self,
        settings: &HubSettings,
        url: &Uri,
        response: &Response,
        signed: bool,
    ) -> RequestError {
        let status = response.status;
        let code = response.header("x-error-code").unwrap_or_default();
        let message = response.header("x-error-message").map(|text| settings.scrub(text)).unwrap_or_default();
        let message = if message.is_empty() { String::new() } else { format!(" ({message})") };
        let token = settings.token.is_some();
        let files = format!("{}/{}/tree/main", settings.endpoint, self.id);
        // no part of a listing is kept, so there is nothing to resume
        let later = if self.file.is_some() { "run it again later to resume" } else { "run it again later" };
        match (status, code) {
            (401 | 403, "GatedRepo") => self.gated(settings, &message),
            (_, "RevisionNotFound") => {
                let what = format!("has no revision '{}'", self.revision);
                self.permanent(Code::HubRevision, what, format!("see the branches at {files}"))
            }
            (_, "EntryNotFound") => {
                let what = format!("not found in revision {}", self.revision);
                self.permanent(Code::HubFile, what, format!("see {files}"))
            }
            // the signature in the URL expired; the Hub creates a new one for the next request
            (401 | 403 | 404 | 410, _) if signed => {
                let what = format!("{} refused the request with status {status}", origin(url));
                self.transient(Code::HubServer, response, what, "run it again to resume")
            }
            // without a token, the Hub does not distinguish a missing repository from a private one
            (404, _) | (401, "RepoNotFound") => self.not_found(settings),
            (401 | 403, _) => self.unauthorized(settings, status, &message),
            (429, _) => {
                let wait = response.number("retry-after").map_or(String::new(), |s| format!(", retry after {s} s"));
                let fix = if token { "run it again later" } else { "run it again later; HF_TOKEN raises the limit" };
                self.transient(Code::HubRate, response, format!("rate limited by the Hub{wait}{message}"), fix)
            }
            (407, _) => {
                let what = "the proxy requires a password";
                let failure = Failure::machine(Code::HubProxy, what, "add it to HTTPS_PROXY");
                RequestError::Permanent(failure.at(self.name()))
            }
            (408 | 500.., _) => {
                let what = format!("{} returned status {status}{message}", origin(url));
                self.transient(Code::HubServer, response, what, later)
            }
            (status, _) => self.invalid_response(url, &format!("status {status}{message}")),
        }
    }

    fn gated(&self, settings: &HubSettings, message: &str) -> RequestError {
        let page = format!("{}/{}", settings.endpoint, self.id);
        let fix = if settings.token.is_some() {
            format!("accept the licence at {page} with the account of the token, then run it again")
        } else {
            format!("accept the licence at {page}, then set HF_TOKEN to a token of that account")
        };
        let what = format!("is gated: its terms have to be accepted on the model page first{message}");
        self.permanent(Code::HubGated, what, fix)
    }

    fn not_found(&self, settings: &HubSettings) -> RequestError {
        let (what, hint) = if settings.token.is_some() {
            let hint =
                format!("a private one needs a token that may read it: see {}/settings/tokens", settings.endpoint);
            ("there is no such repository for this token", hint)
        } else {
            ("there is no such repository", "a private one needs HF_TOKEN".to_owned())
        };
        self.permanent(
            Code::HubNotFound,
            what,
            format!("check the name (tulu-quant models lists the family's); {hint}"),
        )
    }

    fn unauthorized(&self, settings: &HubSettings, status: u16, message: &str) -> RequestError {
        let tokens = format!("{}/settings/tokens", settings.endpoint);
        match (status, settings.token.is_some()) {
            (401, true) => {
                let what = format!("the Hub does not accept the token{message}");
                let fix = format!("make a new token at {tokens} and set HF_TOKEN, or unset it");
                self.permanent(Code::HubAuth, what, fix)
            }
            (_, true) => {
                let what = format!("access denied with status {status}{message}");
                self.permanent(Code::HubAuth, what, "give the token read access to this repository")
            }
            (_, false) => {
                let what = format!("access denied with status {status}{message}");
                let fix = format!("check the name; if it is right, set HF_TOKEN to a token from {tokens}");
                self.permanent(Code::HubAuth, what, fix)
            }
        }
    }
}

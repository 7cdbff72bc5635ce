//! What an answer that is not the data means, as one line with the way out; and what may be tried again.

use super::client::{Response, TransportError};
use super::env::HubSettings;
use super::url::origin;
use crate::error::{Code, Exit, Failure};
use std::time::Duration;
use ureq::http::Uri;

/// A request that did not give what it was to give.
pub(super) enum RequestError {
    /// Asking again does not help.
    Permanent(Failure),
    /// It may pass; the failure to report if it does not, and how long the server asks to wait.
    Transient(Failure, Option<Duration>),
}

impl RequestError {
    /// The same, without secrets.
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

/// What was asked for: for the messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestInfo<'a> {
    /// `owner/name`.
    pub(super) id: &'a str,
    /// Branch, tag or commit.
    pub(super) revision: &'a str,
    /// The file, when it was one.
    pub(super) file: Option<&'a str>,
}

impl RequestInfo<'_> {
    /// `owner/name` or `owner/name/file`.
    fn name(&self) -> String {
        self.file.map_or_else(|| self.id.to_owned(), |file| format!("{}/{file}", self.id))
    }

    /// An answer that is not what the protocol makes it; the next one may be.
    pub(super) fn invalid_response(&self, url: &Uri, what: &str) -> RequestError {
        let what = format!("{} gave an invalid answer: {what}", origin(url));
        let fix = match self.file {
            Some(_) => "check HF_ENDPOINT and the proxy; the file was not used",
            None => "check HF_ENDPOINT and the proxy",
        };
        RequestError::Transient(Failure::machine(Code::HubAnswer, what, fix).at(self.name()), None)
    }

    /// What the status of `reply` means. `signed`: the answer came from an address that the Hub had redirected to.
    pub(super) fn error_of(&self, settings: &HubSettings, url: &Uri, reply: &Response, signed: bool) -> RequestError {
        let status = reply.status;
        let code = reply.header("x-error-code").unwrap_or_default();
        let said = reply.header("x-error-message").map(|text| settings.scrub(text)).unwrap_or_default();
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        let token = settings.token.is_some();
        let (id, revision, site) = (self.id, self.revision, settings.endpoint.as_str());
        // of a listing nothing is kept
        let later =
            if self.file.is_some() { "run it again later: it goes on where it was" } else { "run it again later" };
        let input = |code, what: String, fix: String| {
            let failure = Failure { exit: Exit::Input, ..Failure::machine(code, what, fix) };
            RequestError::Permanent(failure.at(self.name()))
        };
        let transient = |code, what: String, fix: &str| {
            let wait = reply.number("retry-after").map(Duration::from_secs);
            RequestError::Transient(Failure::machine(code, what, fix).at(self.name()), wait)
        };
        match (status, code) {
            (401 | 403, "GatedRepo") => {
                let fix = if token {
                    format!(
                        "accept the licence at {site}/{id} with the account that the token is of, then run it again"
                    )
                } else {
                    format!("accept the licence at {site}/{id}, then set HF_TOKEN to a token of that account")
                };
                input(Code::HubGated, format!("is gated: its owners ask for an agreement{said}"), fix)
            }
            (_, "RevisionNotFound") => {
                let fix = format!("see the branches at {site}/{id}/tree/main");
                input(Code::HubRevision, format!("has no revision '{revision}'"), fix)
            }
            (_, "EntryNotFound") => input(
                Code::HubFile,
                format!("is not there at revision {revision}"),
                format!("see {site}/{id}/tree/main"),
            ),
            // the signature of the address ran out: the Hub gives a new one
            (401 | 403 | 404 | 410, _) if signed => {
                let what = format!("{} refuses with status {status}", origin(url));
                transient(Code::HubServer, what, "run it again: it goes on where it was")
            }
            // without a token the Hub does not tell a missing repository from a private one
            (404, _) | (401, "RepoNotFound") => {
                let what = format!("there is no such repository{}", if token { " for this token" } else { "" });
                let way = if token {
                    format!("a private one needs a token that may read it: see {site}/settings/tokens")
                } else {
                    "a private one needs HF_TOKEN".to_owned()
                };
                let fix = format!("check the name (tulu-quant models lists the family's); {way}");
                input(Code::HubNotFound, what, fix)
            }
            (401, _) if token => {
                let fix = format!("make a new token at {site}/settings/tokens and set HF_TOKEN, or unset it");
                input(Code::HubAuth, format!("the Hub does not accept the token{said}"), fix)
            }
            (401 | 403, _) => {
                let fix = if token {
                    "give the token read access to this repository".to_owned()
                } else {
                    format!("check the name; if it is right, set HF_TOKEN to a token from {site}/settings/tokens")
                };
                input(Code::HubAuth, format!("access is refused with status {status}{said}"), fix)
            }
            (429, _) => {
                let wait = reply.number("retry-after").map_or(String::new(), |s| format!(" for {s} s"));
                let fix = if token { "run it again later" } else { "run it again later; HF_TOKEN raises the limit" };
                transient(Code::HubRate, format!("the Hub asks to wait{wait}: too many requests{said}"), fix)
            }
            (407, _) => {
                let failure =
                    Failure::machine(Code::HubProxy, "the proxy asks for a password", "put it into HTTPS_PROXY");
                RequestError::Permanent(failure.at(self.name()))
            }
            (408 | 500.., _) => {
                let what = format!("{} answers with status {status}{said}", origin(url));
                transient(Code::HubServer, what, later)
            }
            (status, _) => self.invalid_response(url, &format!("status {status}{said}")),
        }
    }
}

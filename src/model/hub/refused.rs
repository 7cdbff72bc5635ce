//! What an answer that is not the data means, as one line with the way out; and what may be tried again.

use super::client::{Fault, Reply};
use super::redirect::place;
use super::settings::Settings;
use crate::error::{Code, Exit, Failure};
use std::time::Duration;
use ureq::http::Uri;

/// A request that did not give what it was to give.
pub(super) enum Trouble {
    /// Asking again does not help.
    Final(Failure),
    /// It may pass; the failure to report if it does not, and how long the server asks to wait.
    Passing(Failure, Option<Duration>),
}

impl Trouble {
    /// The same, without secrets.
    pub(super) fn without_secrets(self, settings: &Settings) -> Self {
        match self {
            Self::Final(failure) => Self::Final(settings.without_secrets(failure)),
            Self::Passing(failure, wait) => Self::Passing(settings.without_secrets(failure), wait),
        }
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        let failure = Failure::machine(fault.code, fault.what, fault.fix);
        if fault.passing { Self::Passing(failure, None) } else { Self::Final(failure) }
    }
}

/// What was asked for: for the messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// `owner/name`.
    pub(super) id: &'a str,
    /// Branch, tag or commit.
    pub(super) revision: &'a str,
    /// The file, when it was one.
    pub(super) file: Option<&'a str>,
}

impl Asked<'_> {
    /// `owner/name` or `owner/name/file`.
    fn name(&self) -> String {
        self.file.map_or_else(|| self.id.to_owned(), |file| format!("{}/{file}", self.id))
    }

    /// An answer that is not what the protocol makes it; the next one may be.
    pub(super) fn wrong(&self, url: &Uri, what: &str) -> Trouble {
        let what = format!("{} gave an invalid answer: {what}", place(url));
        let fix = match self.file {
            Some(_) => "check HF_ENDPOINT and the proxy; the file was not used",
            None => "check HF_ENDPOINT and the proxy",
        };
        Trouble::Passing(Failure::machine(Code::HubAnswer, what, fix).at(self.name()), None)
    }

    /// What the status of `reply` means. `signed`: the answer came from an address that the Hub had redirected to.
    pub(super) fn refused(&self, settings: &Settings, url: &Uri, reply: &Reply, signed: bool) -> Trouble {
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
            Trouble::Final(failure.at(self.name()))
        };
        let passing = |code, what: String, fix: &str| {
            let wait = reply.number("retry-after").map(Duration::from_secs);
            Trouble::Passing(Failure::machine(code, what, fix).at(self.name()), wait)
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
                let what = format!("{} refuses with status {status}", place(url));
                passing(Code::HubServer, what, "run it again: it goes on where it was")
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
                passing(Code::HubRate, format!("the Hub asks to wait{wait}: too many requests{said}"), fix)
            }
            (407, _) => {
                let failure =
                    Failure::machine(Code::HubProxy, "the proxy asks for a password", "put it into HTTPS_PROXY");
                Trouble::Final(failure.at(self.name()))
            }
            (408 | 500.., _) => {
                let what = format!("{} answers with status {status}{said}", place(url));
                passing(Code::HubServer, what, later)
            }
            (status, _) => self.wrong(url, &format!("status {status}{said}")),
        }
    }
}

//! What is said at the end of a run: the figures for people, for scripts, and in the manifest.

use super::job::Job;
use crate::batch::identity::Identity;
use crate::batch::manifest::{self, InputInfo, ModelInfo, OutputInfo, Tokens};
use crate::batch::{Manifest, RunStats, Totals, WrittenOutput};
use crate::clock;
use crate::sanitize::shown;
use crate::stderr::{self, note};
use crate::table::count;
use serde_json::{Value, json};
use std::path::Path;

/// How a run ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    /// Records.
    pub(super) total: u64,
    /// Of these, finished by earlier runs.
    pub(super) resumed: u64,
    /// What this run did.
    pub(super) tally: RunStats,
    /// Over all runs.
    pub(super) sums: Totals,
    /// That this run took.
    pub(super) seconds: f64,
}

impl Ending {
    fn answered(&self) -> u64 {
        self.total.saturating_sub(self.sums.failed)
    }

    fn speed(&self) -> f64 {
        self.tally.completion_tokens as f64 / self.seconds.max(1e-9)
    }

    /// Says how it went.
    pub(super) fn say(&self, written: &WrittenOutput) {
        self.say_figures();
        if let Some(errors) = &written.errors {
            note(&format!("the failed records are in {}", shown(errors)));
        }
        if self.sums.failed > 0 {
            note("failed records are tried again with --retry-errors");
        }
    }

    /// Says how it went, of an output that has no files.
    pub(super) fn say_figures(&self) {
        let RunStats { answered, cut, prompt_tokens, completion_tokens, .. } = self.tally;
        let earlier = match self.resumed {
            0 => String::new(),
            n => format!(" ({n} of the {} by earlier runs)", self.total),
        };
        stderr::line(&format!(
            "{}: {} answered, {} failed{earlier}. {prompt_tokens} prompt and {completion_tokens} answer tokens in \
             {:.1} s, {:.1} tokens/s.",
            count(self.total, "record", "records"),
            self.answered(),
            self.sums.failed,
            self.seconds,
            self.speed(),
        ));
        if cut > 0 {
            note(&format!("{cut} of {answered} records have an answer that a limit ended (finish_reason \"length\")"));
        }
    }

    /// The same for scripts. Fields are added, never renamed.
    pub(super) fn json(&self, output: &Path) -> Value {
        json!({
            "output": output.display().to_string(),
            "manifest": manifest::path(output).ok().map(|path| path.display().to_string()),
            "records": self.total,
            "answered": self.answered(),
            "failed": self.sums.failed,
            "resumed": self.resumed,
            "length": self.tally.cut,
            "prompt_tokens": self.tally.prompt_tokens,
            "cached_tokens": self.tally.cached_tokens,
            "completion_tokens": self.tally.completion_tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.speed(),
        })
    }
}

/// The manifest of a finished output. `model`: its file and that file's sha256; `last`: how the engine ran, if it did, and
/// when the run was started.
pub(super) fn manifest(
    job: &Job<'_>,
    output: &Path,
    ending: &Ending,
    written: &WrittenOutput,
    identity: &Identity,
    (path, sha256): (&Path, Option<String>),
    (engine, started): (Option<Value>, f64),
) -> Manifest {
    let input = InputInfo {
        path: job.source.path().display().to_string(),
        sha256: job.contents.sha256.clone(),
        records: job.contents.len(),
    };
    let made = OutputInfo {
        path: output.display().to_string(),
        sha256: written.sha256.clone(),
        records: ending.total,
        failed: ending.sums.failed,
        errors: written.errors.as_ref().map(|path| path.display().to_string()),
    };
    let fingerprint = identity.model.clone();
    let model = ModelInfo { path: path.display().to_string(), name: identity.name.clone(), sha256, fingerprint };
    let tokens = Tokens { prompt: ending.sums.prompt_tokens, completion: ending.sums.completion_tokens };
    let mut manifest = Manifest::new(identity, input, made, model, tokens);
    manifest.last_run = Some(json!({
        "engine": engine,
        "started": clock::utc(started as u64),
        "finished": clock::utc(clock::now() as u64),
        "seconds": ending.seconds,
        "answered": ending.tally.answered,
        "resumed": ending.resumed,
        "prompt_tokens": ending.tally.prompt_tokens,
        "cached_tokens": ending.tally.cached_tokens,
        "completion_tokens": ending.tally.completion_tokens,
        "tokens_per_second": ending.speed(),
        "peak_memory_bytes": crate::platform::peak_memory(),
    }));
    manifest
}

/// The command line as one would type it.
pub(super) fn command_line() -> String {
    let quoted = |arg: std::ffi::OsString| {
        let arg = arg.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            arg.into_owned()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    std::env::args_os().map(quoted).collect::<Vec<_>>().join(" ")
}

//! What is said at the end of a run: the figures for people, for scripts, and in the manifest.

use super::job::Job;
use crate::batch::{Shard, Sums, Tally, Written, manifest};
use crate::clock;
use crate::error::Failure;
use crate::stderr::{self, note};
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
    pub(super) tally: Tally,
    /// Over all runs.
    pub(super) sums: Sums,
    /// That this run took.
    pub(super) seconds: f64,
}

impl Ending {
    fn speed(&self) -> f64 {
        self.tally.completion_tokens as f64 / self.seconds.max(1e-9)
    }

    /// Says how it went.
    pub(super) fn say(&self, written: &Written) {
        self.say_figures();
        if let Some(errors) = &written.errors {
            note(&format!("the failed records are in {}", errors.display()));
        }
        if self.sums.failed > 0 {
            note("failed records are tried again with --retry-errors");
        }
    }

    /// Says how it went, of an output that has no files.
    pub(super) fn say_figures(&self) {
        let Tally { answered, cut, prompt_tokens, completion_tokens, .. } = self.tally;
        stderr::line(&format!(
            "{} records: {} answered, {} failed ({} from an earlier run). {prompt_tokens} prompt and {completion_tokens} \
             answer tokens in {:.1} s, {:.1} tokens/s.",
            self.total,
            self.total - self.sums.failed,
            self.sums.failed,
            self.resumed,
            self.seconds,
            self.speed(),
        ));
        if cut > 0 {
            note(&format!("{cut} of {answered} answers ended because of a limit (finish_reason \"length\")"));
        }
    }

    /// The same for scripts. Fields are added, never renamed.
    pub(super) fn json(&self, output: &Path) -> Value {
        json!({
            "output": output.display().to_string(),
            "manifest": manifest::path(output).ok().map(|path| path.display().to_string()),
            "records": self.total,
            "answered": self.total - self.sums.failed,
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

/// Writes the manifest of a finished output.
#[allow(clippy::too_many_arguments, reason = "a manifest is made of everything")]
pub(super) fn write_manifest(
    job: &Job<'_>,
    output: &Path,
    ending: &Ending,
    written: &Written,
    identity: &Value,
    model: Value,
    engine: Option<Value>,
    started: f64,
) -> Result<(), Failure> {
    let mut model = model;
    if let (Some(model), Some(samples)) = (model.as_object_mut(), identity["model"].as_object()) {
        model.extend(samples.clone());
    }
    let shard = json!({"index": job.shard.index(), "count": job.shard.count()});
    let fields = json!({
        "format": identity["format"],
        "shard": if job.shard == Shard::WHOLE { Value::Null } else { shard },
        "input": {
            "path": job.source.path().display().to_string(),
            "sha256": job.contents.sha256,
            "records": job.contents.len(),
        },
        "output": {
            "path": output.display().to_string(),
            "sha256": written.sha256,
            "records": ending.total,
            "failed": ending.sums.failed,
            "errors": written.errors.as_ref().map(|path| path.display().to_string()),
        },
        "model": model,
        "parameters": identity["settings"],
        "window": identity["window"],
        "tokens": {"prompt": ending.sums.prompt_tokens, "completion": ending.sums.completion_tokens},
        "last_run": {
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
            "peak_memory_bytes": manifest::peak_memory(),
        },
    });
    manifest::write(output, fields)
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

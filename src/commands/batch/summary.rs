//! The summary of a run: for people on stderr, for scripts as JSON, and in the manifest.

use super::command::BatchCommand;
use crate::batch::identity::Identity;
use crate::batch::manifest::{self, InputInfo, ModelInfo, OutputInfo, Tokens};
use crate::batch::{Manifest, RunStats, Totals, WrittenOutput};
use crate::clock;
use crate::engine::Model;
use crate::sanitize::shown;
use crate::stderr::{self, note};
use crate::table::count;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use tulu_quantize::hex;

/// The figures of a finished run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    /// Records.
    pub(super) total: u64,
    /// Records finished by earlier runs.
    pub(super) resumed: u64,
    /// Counters of this run.
    pub(super) stats: RunStats,
    /// Totals of all runs of this output.
    pub(super) totals: Totals,
    /// Duration of this run, in seconds.
    pub(super) seconds: f64,
}

impl Summary {
    fn answered(&self) -> u64 {
        self.total.saturating_sub(self.totals.failed)
    }

    fn speed(&self) -> f64 {
        self.stats.completion_tokens as f64 / self.seconds.max(1e-9)
    }

    /// Prints the summary to stderr.
    pub(super) fn print(&self, written: &WrittenOutput) {
        self.print_figures();
        if let Some(errors) = &written.errors {
            note(&format!("the failed records are in {}", shown(errors)));
        }
        if self.totals.failed > 0 {
            note("failed records are tried again with --retry-errors");
        }
    }

    /// Prints only the figures: a run to stdout has no files.
    pub(super) fn print_figures(&self) {
        let RunStats { answered, truncated, prompt_tokens, completion_tokens, .. } = self.stats;
        let earlier = match self.resumed {
            0 => String::new(),
            n => format!(" ({n} of the {} by earlier runs)", self.total),
        };
        stderr::line(&format!(
            "{}: {} answered, {} failed{earlier}. {prompt_tokens} prompt and {completion_tokens} answer tokens in \
             {:.1} s, {:.1} tokens/s.",
            count(self.total, "record", "records"),
            self.answered(),
            self.totals.failed,
            self.seconds,
            self.speed(),
        ));
        if let Some(drafts) = self.stats.drafts.text() {
            note(&drafts);
        }
        if truncated > 0 {
            note(&format!(
                "{truncated} of {answered} records have an answer that was cut off (finish_reason \"length\")"
            ));
        }
    }

    /// Returns the summary for scripts. Fields can be added, but never renamed.
    pub(super) fn json(&self, output: &Path) -> Value {
        json!({
            "output": output.display().to_string(),
            "manifest": manifest::path(output).ok().map(|path| path.display().to_string()),
            "records": self.total,
            "answered": self.answered(),
            "failed": self.totals.failed,
            "resumed": self.resumed,
            "length": self.stats.truncated,
            "prompt_tokens": self.stats.prompt_tokens,
            "cached_tokens": self.stats.cached_tokens,
            "completion_tokens": self.stats.completion_tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.speed(),
            "drafts": self.stats.drafts.json(),
        })
    }
}

/// Returns the manifest of a finished output. `sha256` is that of the model file. `engine` and `started` are about the
/// last run: its [`engine`] settings, if it loaded the model, and its start in seconds since 1970.
pub(super) fn manifest(
    command: &BatchCommand<'_>,
    output: &Path,
    summary: &Summary,
    written: &WrittenOutput,
    identity: &Identity,
    (path, sha256): (&Path, Option<String>),
    (engine, started): (Option<Value>, f64),
) -> Manifest {
    let input = InputInfo {
        path: command.input.path().display().to_string(),
        sha256: command.index.sha256.clone(),
        records: command.index.len(),
    };
    let made = OutputInfo {
        path: output.display().to_string(),
        sha256: written.sha256.clone(),
        records: summary.total,
        failed: summary.totals.failed,
        errors: written.errors.as_ref().map(|path| path.display().to_string()),
    };
    let fingerprint = identity.model.clone();
    let model = ModelInfo { path: path.display().to_string(), name: identity.name.clone(), sha256, fingerprint };
    let tokens = Tokens { prompt: summary.totals.prompt_tokens, completion: summary.totals.completion_tokens };
    let mut manifest = Manifest::new(identity, input, made, model, tokens);
    manifest.last_run = Some(json!({
        "engine": engine,
        "started": clock::utc(started as u64),
        "finished": clock::utc(clock::now() as u64),
        "seconds": summary.seconds,
        "answered": summary.stats.answered,
        "resumed": summary.resumed,
        "prompt_tokens": summary.stats.prompt_tokens,
        "cached_tokens": summary.stats.cached_tokens,
        "completion_tokens": summary.stats.completion_tokens,
        "tokens_per_second": summary.speed(),
        "drafts": summary.stats.drafts.json(),
        "peak_memory_bytes": crate::platform::peak_memory(),
    }));
    manifest
}

/// Returns the settings that the engine ran with, for the manifest.
pub(super) fn engine(model: &Model) -> Value {
    let (settings, template) = (model.settings(), model.chat_template());
    json!({
        "slots": model.kv_plan().n_slots,
        "threads": model.n_threads(),
        "n_ctx": model.n_ctx(),
        "kv_tokens": model.kv_plan().n_cells,
        "gpu_layers": model.n_gpu_layers(),
        "flash_attn": settings.flash_attn.name(),
        "repacked": model.repacked(),
        "cache_types": [settings.type_k.name(), settings.type_v.name()],
        "template_sha256": template.map(|text| hex(&Sha256::digest(text))),
    })
}

/// Returns the command line of this process, quoted for a shell.
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

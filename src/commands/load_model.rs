//! Loads a model for a subcommand: downloads and converts it if necessary, shows a progress bar, and prints a note if
//! the context was reduced. Shared by all subcommands that run a model.

use crate::engine::{EngineSettings, Model};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model;
use crate::options::HubArgs;
use crate::progress::Bar;
use crate::stderr;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time before a bar is shown; a bar for a shorter time would only flicker.
const BAR_DELAY: Duration = Duration::from_millis(500);

/// Returns the GGUF file of `name`. Rejects a context size above the training context before the model is downloaded or
/// converted.
pub(super) fn resolve(
    name: Option<&OsStr>,
    settings: &EngineSettings,
    args: &HubArgs,
    interrupt: &Interrupt,
) -> Result<PathBuf, Failure> {
    if let Some(trained) = model::trained_context(name) {
        settings.check_trained_context(trained)?;
    }
    model::resolve(name, &args.options(), interrupt)
}

/// Loads the GGUF file at `path` for `n_slots` sequences, or for as many as the available memory suggests. Ctrl-C stops
/// it.
pub(super) fn model(
    path: &Path,
    settings: EngineSettings,
    n_slots: Option<u32>,
    interrupt: &Interrupt,
) -> Result<Model, Failure> {
    let as_trained = settings.n_ctx.is_none();
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    let (began, mut bar) = (Instant::now(), None);
    let watch = interrupt.clone();
    let model = Model::load(path, settings, n_slots, move |part| {
        if began.elapsed() >= BAR_DELAY {
            let done = (f64::from(part) * bytes as f64) as u64;
            bar.get_or_insert_with(|| Bar::bytes("loading", bytes)).set(done);
        }
        watch.asked().is_none()
    });
    let model = model.map_err(|failure| match (failure.code, interrupt.asked()) {
        (Code::Interrupted, Some(exit)) => Failure { exit, ..failure },
        // A damaged file in our cache is created again.
        (Code::Model, _) if crate::model::app_dirs::cache_dir().is_ok_and(|cache| path.starts_with(cache)) => {
            Failure { fix: "delete the file; the same command creates it again".to_owned(), ..failure }
        }
        _ => failure,
    })?;
    let (n_ctx, trained) = (model.n_ctx(), model.dims().n_ctx_train);
    if as_trained && n_ctx < trained {
        stderr::note(&format!("context reduced to {n_ctx} of {trained} tokens to fit in memory"));
    }
    Ok(model)
}

//! Loads a model for a subcommand: downloads and converts it if necessary, shows a progress bar, and prints a note if
//! the context was reduced. Shared by all subcommands that run a model.

use crate::engine::{Bos, EngineSettings, GpuLayers, GpuSettings, Model, Vocab, VocabFile, memory_forecast};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model;
use crate::options::{DraftArgs, HubArgs};
use crate::progress::Bar;
use crate::sanitize::{one_line, shown};
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
    model.notes().iter().for_each(|note| stderr::note(note));
    Ok(model)
}

/// Returns the GGUF file of the draft model (`--draft`), if there is one, and `settings` for the main model, which leave
/// memory for it.
pub(super) fn resolve_second(
    args: &DraftArgs,
    settings: EngineSettings,
    hub: &HubArgs,
    interrupt: &Interrupt,
) -> Result<(Option<PathBuf>, EngineSettings), Failure> {
    let Some(name) = &args.draft else { return Ok((None, settings)) };
    let path = model::resolve(Some(name), &hub.options(), interrupt)?;
    let (reserved, _) = memory_forecast(&path, &settings)?;
    let gpu = GpuSettings { reserved, ..settings.gpu };
    Ok((Some(path), EngineSettings { reserved, gpu, ..settings }))
}

/// Loads the draft model for the sequences of the model `main`.
///
/// # Errors
/// `DRAFT_VOCABULARY`: the vocabularies differ.
pub(super) fn second(path: &Path, main: &Model, interrupt: &Interrupt) -> Result<Model, Failure> {
    // The prompts come from the main model, whatever the draft model says about BOS.
    let vocab = VocabFile::open(path, Bos::Auto)?;
    if let Some(token) = main.vocab().first_difference(&vocab.vocab()) {
        let text = |vocab: &Vocab<'_>| match (0..vocab.len()).contains(&token.0) {
            true => format!("'{}'", one_line(&String::from_utf8_lossy(&vocab.shown(token)))),
            false => "missing".to_owned(),
        };
        let what = format!(
            "the vocabulary of the draft model differs from that of {}: token {} is {} there and {} here",
            shown(main.path()),
            token.0,
            text(&main.vocab()),
            text(&vocab.vocab())
        );
        let fix = "give a draft model with the same tokenizer, or leave --draft out";
        return Err(Failure::input(Code::DraftVocabulary, what, fix).at(path));
    }
    let (_, trained) = memory_forecast(path, main.settings())?;
    let plan = main.kv_plan();
    let n_ctx = plan.n_ctx.min(trained);
    let settings = EngineSettings {
        n_ctx: Some(n_ctx),
        n_cells: Some(plan.n_cells.max(n_ctx)),
        n_needed: None,
        reserved: 0,
        n_kept: 0,
        gpu: second_gpu(main),
        bos: Bos::Auto,
        ..main.settings().clone()
    };
    model(path, settings, Some(plan.n_slots + plan.n_ahead + plan.n_kept), interrupt)
}

/// Returns what of the draft model is on GPUs: as much as fits beside the context of `main`, which does not exist yet.
fn second_gpu(main: &Model) -> GpuSettings {
    let given = main.settings().gpu.clone();
    let layers = if given.layers == GpuLayers::Count(0) { given.layers } else { GpuLayers::Auto };
    let parts = main.on_devices();
    let taken = parts.iter().map(|part| (part.device.index, part.used.cache + part.used.compute)).collect();
    GpuSettings { layers, taken, reserved: 0, ..given }
}

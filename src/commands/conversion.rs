//! Opens the source of a conversion, and converts it with a progress bar. Shared by `convert` and by `eval --types`.

use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model::FetchOptions;
use crate::model::hub::Hub;
use crate::model::if_exists;
use crate::model::model_ref::{self, ModelRef, parse_type};
use crate::model::resolve::{check_is_checkpoint, list_repo, ready_file};
use crate::model::stopped;
use crate::model::streaming::{self, CheckpointSource};
use crate::watch::Watch;
use std::path::Path;
use tulu_quantize::{Checkpoint, ConvertOptions, Ftype, Plan, Report};

/// A source as the user named it.
pub(super) struct Wanted<'a> {
    /// A checkpoint folder, a GGUF file, or a model of the family or the Hub.
    pub(super) source: &'a Path,
    /// Whether a quantized GGUF file is accepted.
    pub(super) allow_requantize: bool,
    /// How a model of the Hub is downloaded.
    pub(super) fetch: &'a FetchOptions,
    /// The subcommand, for errors.
    pub(super) command: &'a str,
    /// Its flag for types, for errors.
    pub(super) flag: &'a str,
}

/// Opens the source: an existing folder or file, or else a model of the family or the Hub.
pub(super) fn open(wanted: &Wanted<'_>, interrupt: &Interrupt) -> Result<CheckpointSource, Failure> {
    let source = wanted.source;
    let found = if_exists::metadata(source)?;
    if found.as_ref().is_some_and(|it| !it.is_dir()) {
        return Ok(Checkpoint::open_gguf(source, wanted.allow_requantize)?.into());
    }
    let named = if found.is_none() { Some(model_ref::parse(source.as_os_str())?) } else { None };
    let (repo, ftype) = match named {
        Some(ModelRef::Hub(repo, ftype)) => (repo, ftype),
        Some(ModelRef::HubGguf(repo, file)) => {
            let file = ready_file(&repo, &file, wanted.fetch, interrupt)?;
            return Ok(Checkpoint::open_gguf(&file, wanted.allow_requantize)?.into());
        }
        Some(ModelRef::Bundled(bundle, None)) => return Ok(Checkpoint::open(&bundle.folder()?)?.into()),
        Some(ModelRef::Bundled(_, Some(ftype)) | ModelRef::Folder(_, Some(ftype))) => {
            return Err(type_after_name(wanted, ftype));
        }
        _ => {
            check_is_checkpoint(source)?;
            return Ok(Checkpoint::open(source)?.into());
        }
    };
    if let Some(ftype) = ftype {
        return Err(type_after_name(wanted, ftype));
    }
    let hub = Hub::from_env(interrupt)?;
    // a complete checkpoint in the cache needs no network
    match hub.settings().cache.complete_snapshot(&repo)?.filter(|_| hub.settings().offline) {
        Some(folder) => Ok(Checkpoint::open(&folder)?.into()),
        None => CheckpointSource::listed(&hub, list_repo(&hub, &repo)?, wanted.fetch),
    }
}

/// Creates the error for MODEL:TYPE. `chat` accepts it; here a flag has the types.
fn type_after_name(wanted: &Wanted<'_>, ftype: Ftype) -> Failure {
    let Wanted { command, flag, .. } = wanted;
    let (what, fix) =
        (format!("{command} does not accept NAME:TYPE"), format!("name the types with {flag}: {flag} {ftype}"));
    Failure::input(Code::Request, what, fix).at(wanted.source)
}

/// Parses the types and drops repetitions.
pub(super) fn types(names: &[String]) -> Result<Vec<Ftype>, Failure> {
    let mut types = Vec::new();
    for name in names.iter().map(|n| n.trim()).filter(|n| !n.is_empty()) {
        let ftype = parse_type(name)?;
        if !types.contains(&ftype) {
            types.push(ftype);
        }
    }
    Ok(types)
}

/// Writes the outputs of `plan`. After a signal, the error has the exit code of the signal.
pub(super) fn run(
    opened: &CheckpointSource,
    plan: &Plan,
    options: ConvertOptions,
    interrupt: &Interrupt,
) -> Result<Report, Failure> {
    let watch = Watch::new("converting", plan.source_bytes, interrupt);
    let journal = streaming::journal_of(&opened.checkpoint().name(), plan);
    let converted = opened.convert(plan, options, &journal, &watch);
    watch.clear();
    converted.map_err(|err| match interrupt.asked() {
        Some(exit) if err.code == Code::Interrupted && opened.remote_name().is_some() => stopped(exit),
        asked => Failure { exit: asked.unwrap_or(err.exit), ..err },
    })
}

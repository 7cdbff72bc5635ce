//! MODEL on the command line → a GGUF file on this machine.

use super::hub::RepoId;
use super::{cache, demo};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::progress::Watch;
use crate::table;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use tulu_quantize::{Checkpoint, Ftype, Options, Plan, Recipe, convert};

/// The type a checkpoint is converted to when none is named with `:TYPE`.
const DEFAULT_TYPE: Ftype = Ftype::Q4_K_M;

/// The GGUF file that `model` means: a `.gguf` file as it is, a checkpoint folder (`DIR` or `DIR:TYPE`) converted into the
/// cache, and the demonstration model for `None`. What is converted is said on stderr first.
pub(crate) fn resolve(model: Option<&str>, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let Some(model) = model else { return demonstration(interrupt) };
    let path = Path::new(model);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    if path.is_dir() {
        return folder(path, DEFAULT_TYPE, interrupt);
    }
    if let Some((name, ftype)) = model.rsplit_once(':')
        && Path::new(name).is_dir()
    {
        return folder(Path::new(name), parse_type(ftype)?, interrupt);
    }
    if model.ends_with(".gguf") || model.contains(std::path::MAIN_SEPARATOR) && !looks_like_hub_id(model) {
        return Err(Failure::input("NOT_FOUND", "there is no such file or folder", "check the path").at(path));
    }
    let fix = "download it first (hf download OWNER/NAME --local-dir DIR) and give DIR";
    Err(Failure::input("NOT_FOUND", "is no file or folder here, and names are not fetched from the Hub yet", fix)
        .at(path))
}

/// A type's name, or the list of them.
pub(crate) fn parse_type(name: &str) -> Result<Ftype, Failure> {
    Ftype::from_str(name).map_err(|err| Failure::input("TYPE", err.to_string(), "name one of these"))
}

/// `owner/name`, perhaps with `@revision` or `:TYPE`.
fn looks_like_hub_id(model: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.starts_with(['.', '~']);
    model.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name) && !name.contains('/'))
}

fn demonstration(interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let name = format!("{}-{}-{DEFAULT_TYPE}.gguf", demo::NAME, demo::fingerprint());
    let kept = cache::dir()?.join(name);
    if !kept.is_file() {
        let unpacked =
            tempfile::tempdir().map_err(|err| Failure::io(&std::env::temp_dir(), "cannot unpack the model", &err))?;
        make(&demo::unpack(unpacked.path())?, DEFAULT_TYPE, &kept, interrupt)?;
    }
    Ok(kept)
}

fn folder(dir: &Path, ftype: Ftype, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let full = std::fs::canonicalize(dir).map_err(|err| Failure::io(dir, "cannot open the folder", &err))?;
    let kept = cache::dir()?.join(cached_name(&full, ftype)?);
    if !kept.is_file() {
        make(&full, ftype, &kept, interrupt)?;
    }
    Ok(kept)
}

/// The cached file's name holds what it was made from: folder, type, and size and time of every file in the folder, so
/// that a changed checkpoint is converted again.
fn cached_name(dir: &Path, ftype: Ftype) -> Result<String, Failure> {
    use sha2::Digest as _;
    let io = |err: std::io::Error| Failure::io(dir, "cannot list the folder", &err);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let found = std::fs::metadata(&path).map_err(io)?;
        if found.is_file() {
            files.push(format!("{path:?} {} {:?}", found.len(), found.modified().ok()));
        }
    }
    files.sort();
    let digest = sha2::Sha256::digest(files.join("\n"));
    let short: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    let name = dir.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    Ok(format!("{name}-{short}-{ftype}.gguf"))
}

/// Converts `dir` into the one file `to`, with a bar.
fn make(dir: &Path, ftype: Ftype, to: &Path, interrupt: &Interrupt) -> Result<(), Failure> {
    let source = Checkpoint::open(dir)?;
    let plan = Plan::new(&source, &[(ftype, to.to_owned())], &Recipe::default())?;
    eprintln!(
        "Converting {} ({} weights) to {ftype}: reads {}, keeps {} in {}",
        source.name(),
        table::params(plan.n_params),
        table::bytes(plan.source_bytes),
        table::bytes(plan.output_bytes()),
        to.display()
    );
    source.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let watch = Watch::new("converting", plan.source_bytes, interrupt);
    // another process may have made the same file meanwhile: it is the same, so replacing it is right
    let options = Options { threads: threads(), replace: true, reference_kernels: false };
    convert(&source, &plan, options, &watch)?;
    Ok(())
}

/// Every core: conversion is all computing.
pub(crate) fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The repository that a Hub id names.
pub(crate) fn repo(name: &str) -> Result<RepoId, Failure> {
    RepoId::parse(name).ok_or_else(|| {
        Failure::input("NOT_FOUND", format!("'{name}' is no Hub id"), "write it as OWNER/NAME or OWNER/NAME@REVISION")
    })
}

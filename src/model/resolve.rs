//! Resolves a MODEL argument to a GGUF file on this machine; downloads and converts if needed. The argument is parsed
//! in `model_ref.rs`.

use super::FetchOptions;
use super::bundled::Bundle;
use super::confirm::Confirmation;
use super::converted_cache::ConvertedCache;
use super::fetch_and_convert::{FetchJob, fetch_and_convert};
use super::hub::{Hub, Listing, RepoId, missing_files};
use super::if_exists;
use super::model_ref::{self, ModelRef};
use super::published_gguf::{self, Wanted};
use super::{app_dirs, cached_gguf, ready_gguf, registry};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::sanitize::shown;
use crate::stderr;
use crate::table;
use crate::watch::Watch;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tulu_quantize::hex;
use tulu_quantize::{Checkpoint, ConvertOptions, Ftype, Plan, QuantizeOptions, convert};

/// The type to convert to without `:TYPE`.
const DEFAULT_TYPE: Ftype = Ftype::Q4_K_M;

/// Returns the GGUF file of `model`: a `.gguf` file as it is; a checkpoint folder or a model of the Hub, converted into
/// the cache; for `None`, the demonstration model. Prints each download and conversion to stderr.
pub(crate) fn resolve(model: Option<&OsStr>, fetch: &FetchOptions, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let Some(model) = model else { return bundled_gguf(Bundle::Demo, DEFAULT_TYPE, fetch.refresh, interrupt) };
    resolve_as(model, DEFAULT_TYPE, fetch, interrupt)
}

/// Like [`resolve`], but converts a model without `:TYPE` to `default`.
pub(crate) fn resolve_as(
    model: &OsStr,
    default: Ftype,
    fetch: &FetchOptions,
    interrupt: &Interrupt,
) -> Result<PathBuf, Failure> {
    match model_ref::parse(model)? {
        ModelRef::File(path) => Ok(path),
        ModelRef::Folder(path, ftype) => folder_gguf(&path, ftype.unwrap_or(default), fetch.refresh, interrupt),
        ModelRef::Bundled(bundle, ftype) => bundled_gguf(bundle, ftype.unwrap_or(default), fetch.refresh, interrupt),
        ModelRef::Hub(repo, ftype) => hub_gguf(&repo, ftype, default, fetch, interrupt),
        ModelRef::HubGguf(repo, wanted) => ready_file(&repo, &wanted, fetch, interrupt),
    }
}

/// Returns a ready GGUF file of the Hub; downloads it if it is not in the shared cache.
pub(crate) fn ready_file(
    repo: &RepoId,
    wanted: &Wanted,
    fetch: &FetchOptions,
    interrupt: &Interrupt,
) -> Result<PathBuf, Failure> {
    let hub = Hub::from_env(interrupt)?;
    match ready_in_cache(&hub, repo, wanted, fetch)? {
        Some(file) => Ok(file),
        None => ready_gguf::fetch(&hub, &list_repo(&hub, repo)?, wanted, fetch),
    }
}

/// Returns a ready GGUF file from the shared cache; none with `--refresh`.
fn ready_in_cache(hub: &Hub, repo: &RepoId, wanted: &Wanted, fetch: &FetchOptions) -> Result<Option<PathBuf>, Failure> {
    if fetch.refresh {
        return Ok(None);
    }
    ready_gguf::cached(&hub.settings().cache, repo, wanted, hub.settings().offline)
}

/// Returns the context size that `model` was trained for, if it is known without a download or a conversion.
pub(crate) fn trained_context(model: Option<&OsStr>) -> Option<u32> {
    match model_ref::parse(model?).ok()? {
        ModelRef::Folder(dir, _) => {
            tulu_quantize::checkpoint::Config::read(&dir).ok().map(|config| config.max_position_embeddings)
        }
        ModelRef::Hub(repo, _) => registry::find_repo(&repo)?.n_ctx,
        ModelRef::HubGguf(..) => None,
        // These need neither a download nor a long conversion, so the check after loading is early enough.
        ModelRef::File(_) | ModelRef::Bundled(..) => None,
    }
}

/// Returns the GGUF file of a model of the Hub: a checkpoint converted, or a ready file if the repository has no
/// checkpoint. Once it is here, it is used without a request to the Hub, until `--refresh`.
fn hub_gguf(
    repo: &RepoId,
    typed: Option<Ftype>,
    default: Ftype,
    fetch: &FetchOptions,
    interrupt: &Interrupt,
) -> Result<PathBuf, Failure> {
    let ftype = typed.unwrap_or(default);
    let converted = ConvertedCache::for_repo(repo)?;
    let mut repo = repo.clone();
    if let Some((gguf, commit)) = converted.current(ftype)?.filter(|_| !fetch.refresh) {
        if cached_gguf::is_intact(&gguf)? {
            return Ok(gguf);
        }
        // convert the recorded commit again, not a newer one of the branch
        repo.revision = Some(commit);
    }
    let hub = Hub::from_env(interrupt)?;
    if let Some(folder) = hub.settings().cache.complete_snapshot(&repo)?.filter(|_| !fetch.refresh) {
        let commit = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let gguf = converted.gguf_path(&commit, ftype);
        cached_gguf::ensure(&gguf, false, interrupt, || convert_folder(&folder, ftype, &gguf, interrupt))?;
        converted.record_commit(&commit)?;
        return Ok(gguf);
    }
    let wanted = ready_gguf::wanted(typed);
    if let Some(file) = ready_in_cache(&hub, &repo, &wanted, fetch)? {
        return Ok(file);
    }
    let listing = list_repo(&hub, &repo)?;
    if listing.needed().is_err() && listing.files.iter().any(|file| published_gguf::is_model(&file.path)) {
        return ready_gguf::fetch(&hub, &listing, &wanted, fetch);
    }
    let gguf = converted.gguf_path(&listing.commit, ftype);
    cached_gguf::ensure(&gguf, false, interrupt, || {
        let (needed, outputs) = (listing.needed()?, [(ftype, gguf.clone())]);
        Confirmation::new(&hub, &listing, &needed, &outputs, fetch.keep_checkpoint)?.ask(&hub, fetch)?;
        create_parent(&gguf)?;
        let options = ConvertOptions { threads: available_threads(), replace: true, reference_kernels: false };
        let recipe = QuantizeOptions::default();
        fetch_and_convert(&FetchJob {
            hub: &hub,
            listing: &listing,
            outputs: &outputs,
            recipe: &recipe,
            options,
            fetch,
            interrupt,
        })
        .map(drop)
    })?;
    converted.record_commit(&listing.commit)?;
    Ok(gguf)
}

/// Lists a repository. Adds to an error the missing files, if offline, or a similar name.
pub(crate) fn list_repo(hub: &Hub, repo: &RepoId) -> Result<Listing, Failure> {
    hub.listing(repo).map_err(|failure| match failure.code {
        Code::HubOffline => missing_offline(hub, repo, failure).unwrap_or_else(|other| other),
        Code::HubNotFound if registry::find_repo(repo).is_none() => match registry::nearest(&repo.name) {
            Some(near) => Failure { fix: format!("did you mean {near}? {}", failure.fix), ..failure },
            None => failure,
        },
        _ => failure,
    })
}

/// Names the missing files in the error if the cache has a part of the checkpoint.
fn missing_offline(hub: &Hub, repo: &RepoId, failure: Failure) -> Result<Failure, Failure> {
    let Some(folder) = hub.settings().cache.partial_snapshot(repo)? else { return Ok(failure) };
    let what = format!("HF_HUB_OFFLINE is set, and the cache lacks {}", missing_files(&folder)?.join(", "));
    Ok(Failure { what, ..failure }.at(folder))
}

fn bundled_gguf(bundle: Bundle, ftype: Ftype, refresh: bool, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let gguf = app_dirs::cache_dir()?.join(format!("{}-{ftype}.gguf", bundle.stem()));
    cached_gguf::ensure(&gguf, refresh, interrupt, || {
        let unpacked =
            tempfile::tempdir().map_err(|err| Failure::io(&std::env::temp_dir(), "cannot unpack the model", &err))?;
        convert_folder(&bundle.unpack(unpacked.path())?, ftype, &gguf, interrupt)
    })?;
    Ok(gguf)
}

fn folder_gguf(dir: &Path, ftype: Ftype, refresh: bool, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let full = std::fs::canonicalize(dir).map_err(|err| Failure::io(dir, "cannot open the folder", &err))?;
    check_is_checkpoint(dir)?;
    let gguf = app_dirs::cache_dir()?.join(cached_name(&full, ftype)?);
    cached_gguf::ensure(&gguf, refresh, interrupt, || convert_folder(&full, ftype, &gguf, interrupt))?;
    Ok(gguf)
}

/// Checks that a folder looks like a checkpoint.
///
/// # Errors
/// `NOT_FOUND`, with the GGUF file to use instead, if there is one.
pub(crate) fn check_is_checkpoint(dir: &Path) -> Result<(), Failure> {
    // an adapter or a repository of the Hugging Face cache passes, because the reader of checkpoints has a better error
    // for it
    for name in ["config.json", "adapter_config.json", "snapshots"] {
        if if_exists::metadata(&dir.join(name))?.is_some() {
            return Ok(());
        }
    }
    let is_gguf = |path: &PathBuf| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let fix = match if_exists::list(dir)?.into_iter().find(is_gguf) {
        Some(file) => format!("give the file: {}", file.display()),
        None => "give the folder of a Hugging Face checkpoint, or a .gguf file".to_owned(),
    };
    Err(Failure::input(Code::NotFound, "is not a checkpoint folder: config.json is missing", fix).at(dir))
}

/// Returns the name of a folder's cached file. It contains a hash of the folder's path and of the sizes and times of
/// its files, so that a changed checkpoint is converted again.
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
    let short = hex(&digest[..6]);
    let name = dir.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    Ok(format!("{name}-{short}-{ftype}.gguf"))
}

/// Converts `dir` to the file `to`, with a progress bar.
fn convert_folder(dir: &Path, ftype: Ftype, to: &Path, interrupt: &Interrupt) -> Result<(), Failure> {
    let source = Checkpoint::open(dir)?;
    let plan = Plan::new(&source, &[(ftype, to.to_owned())], &QuantizeOptions::default())?;
    stderr::line(&format!(
        "Converting {} ({} weights) to {ftype}: reads {}, keeps {} in {}",
        source.name(),
        table::params(plan.n_params),
        table::bytes(plan.source_bytes),
        table::bytes(plan.output_bytes()),
        shown(to)
    ));
    source.notes.iter().chain(&crate::prompt::check_template(&source)?).for_each(|note| stderr::note(note));
    create_parent(to)?;
    let watch = Watch::new("converting", plan.source_bytes, interrupt);
    // another process may have made the file meanwhile; it is the same
    let options = ConvertOptions { threads: available_threads(), replace: true, reference_kernels: false };
    convert(&source, &plan, options, &watch)?;
    Ok(())
}

fn create_parent(file: &Path) -> Result<(), Failure> {
    let parent = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|err| {
        let what = format!("cannot create the folder: {err}");
        Failure::machine(Code::Cache, what, "set TULU_QUANT_CACHE to a folder that you can write to").at(parent)
    })
}

/// Returns the number of cores, because conversion is compute-bound.
pub(crate) fn available_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

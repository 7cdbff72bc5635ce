//! Ready GGUF files of the Hub: finds one in the cache shared with `huggingface_hub`, or downloads it there.

use super::FetchOptions;
use super::confirm;
use super::hub::{Hub, HubCache, Listing, RemoteFile, RepoId};
use super::if_exists;
use super::published_gguf::{self, Wanted};
use crate::error::{Code, Failure};
use crate::sanitize::{one_line, shown};
use crate::stderr;
use crate::table;
use std::path::{Path, PathBuf};
use tulu_quantize::Ftype;

/// Folders below a snapshot that are searched: publishers put the parts of a type into a folder.
const DEPTH: u32 = 2;

/// Returns what a type after the name of a repository asks for.
pub(crate) fn wanted(ftype: Option<Ftype>) -> Wanted {
    ftype.map_or(Wanted::Default, |ftype| Wanted::Type(ftype.to_string()))
}

/// Finds a file in the shared cache; for a split file, its first part. The default type must be there itself, unless
/// `any` accepts another one.
pub(crate) fn cached(cache: &HubCache, repo: &RepoId, wanted: &Wanted, any: bool) -> Result<Option<PathBuf>, Failure> {
    let Some(snapshot) = cache.partial_snapshot(repo)? else { return Ok(None) };
    let names = names_below(&snapshot, "", DEPTH)?;
    let exact = Wanted::Type(wanted.to_string());
    let wanted = if *wanted == Wanted::Default && !any { &exact } else { wanted };
    let chosen = published_gguf::choose(names.iter().map(String::as_str), wanted);
    Ok(chosen.ok().and_then(|files| Some(snapshot.join(files.first()?))))
}

/// Returns whether the shared cache has a GGUF file of `repo`.
pub(crate) fn has_any(cache: &HubCache, repo: &RepoId) -> Result<bool, Failure> {
    let Some(snapshot) = cache.partial_snapshot(repo)? else { return Ok(false) };
    Ok(names_below(&snapshot, "", DEPTH)?.iter().any(|name| published_gguf::is_model(name)))
}

/// Returns the paths of the files below `folder`, with `/` between their parts.
fn names_below(folder: &Path, prefix: &str, depth: u32) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for path in if_exists::list(folder)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        match if_exists::metadata(&path)? {
            Some(found) if found.is_dir() && depth > 0 => {
                all.extend(names_below(&path, &format!("{name}/"), depth.saturating_sub(1))?);
            }
            Some(found) if found.is_file() => all.push(name),
            _ => {}
        }
    }
    Ok(all)
}

/// Downloads the files of one model into the shared cache, after a question on a terminal. Returns the path of the
/// first.
pub(crate) fn fetch(hub: &Hub, listing: &Listing, wanted: &Wanted, fetch: &FetchOptions) -> Result<PathBuf, Failure> {
    let files = choose(listing, wanted)?;
    let missing = hub.to_fetch(listing, &files);
    if missing > 0 {
        stderr::block(&summary(hub, listing, &files, missing));
        if !fetch.yes {
            confirm::go_on(hub, &listing.repo)?;
        }
    }
    let snapshot = hub.pull(listing, &files, fetch.connections)?;
    Ok(files.first().map_or_else(|| snapshot.clone(), |file| snapshot.join(&file.path)))
}

/// Chooses the files of one model from a listing.
pub(crate) fn choose<'l>(listing: &'l Listing, wanted: &Wanted) -> Result<Vec<&'l RemoteFile>, Failure> {
    let paths = published_gguf::choose(listing.files.iter().map(|file| file.path.as_str()), wanted);
    let paths = paths.map_err(|failure| {
        let (what, code) = (one_line(&failure.what), failure.code);
        Failure { what, code, ..failure }.at(listing.repo.id())
    })?;
    let found: Option<Vec<&RemoteFile>> = paths.iter().map(|path| listing.file(path)).collect();
    found.ok_or_else(|| Failure::engine(Code::Defect, "a chosen file is not listed", "report this"))
}

fn summary(hub: &Hub, listing: &Listing, files: &[&RemoteFile], missing: u64) -> String {
    let size = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    let name = files.first().map_or("", |file| file.path.as_str());
    let parts =
        if files.len() > 1 { format!(" and {} more parts", files.len().saturating_sub(1)) } else { String::new() };
    let here = size.saturating_sub(missing);
    let here = if here > 0 { format!(" ({} are here already)", table::bytes(here)) } else { String::new() };
    let licence = listing.licence.as_deref().map_or("not stated: see the model card".to_owned(), one_line);
    let gated = if listing.gated { "  gated     its owners ask for an agreement on the model's page\n" } else { "" };
    format!(
        "{} at {:.8}\n  fetches   {}{here}: {}{parts}\n  keeps     it in {}\n  memory    {} of weights, and the KV cache\n  \
         licence   {licence}\n{gated}",
        listing.repo.id(),
        listing.commit,
        table::bytes(missing),
        one_line(name),
        shown(&hub.settings().cache.0),
        table::bytes(size),
    )
}

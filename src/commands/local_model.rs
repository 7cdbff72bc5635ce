//! Finds the MODEL argument of `inspect` and `verify`: a path, or the name of a model whose files are on this machine.
//! Nothing is downloaded or converted here.

use crate::error::{Code, Failure};
use crate::model::converted_cache::ConvertedCache;
use crate::model::hub::{HubSettings, RepoId};
use crate::model::model_ref::{self, ModelRef};
use crate::model::published_gguf::Wanted;
use crate::model::{app_dirs, ready_gguf};
use std::ffi::OsStr;
use std::path::PathBuf;

/// A file or folder on this machine.
#[derive(Debug)]
pub(super) enum LocalModel {
    /// A file of any kind.
    File(PathBuf),
    /// A folder, expected to be a checkpoint.
    Folder(PathBuf),
}

/// Finds the file or folder of `text`. An existing path has priority, as in every subcommand. A name stands for the
/// model's checkpoint, or, with `:TYPE`, for the GGUF file made from it.
///
/// # Errors
/// `NOT_FOUND` when no file of the model is on this machine.
pub(super) fn find(text: &OsStr) -> Result<LocalModel, Failure> {
    let name = &*text.to_string_lossy();
    match model_ref::parse(text)? {
        ModelRef::File(path) => Ok(LocalModel::File(path)),
        ModelRef::Folder(path, None) => Ok(LocalModel::Folder(path)),
        ModelRef::Folder(path, Some(_)) => {
            let fix = "give the folder, or a .gguf file made from it";
            Err(Failure::input(Code::Usage, "inspect and verify do not accept FOLDER:TYPE", fix).at(path))
        }
        ModelRef::Bundled(bundle, None) => Ok(LocalModel::Folder(bundle.folder()?)),
        ModelRef::Bundled(bundle, Some(ftype)) => {
            let file = app_dirs::cache_dir()?.join(format!("{}-{ftype}.gguf", bundle.stem()));
            existing(file, name)
        }
        ModelRef::Hub(repo, Some(ftype)) => match ConvertedCache::for_repo(&repo)?.current(ftype)? {
            Some((file, _)) => Ok(LocalModel::File(file)),
            None => ready(&repo, &ready_gguf::wanted(Some(ftype)), name),
        },
        ModelRef::HubGguf(repo, wanted) => ready(&repo, &wanted, name),
        ModelRef::Hub(repo, None) => {
            let cache = HubSettings::from_env()?.cache;
            if let Some(folder) = cache.complete_snapshot(&repo)? {
                return Ok(LocalModel::Folder(folder));
            }
            if let Some(file) = ready_gguf::cached(&cache, &repo, &Wanted::Default, true)? {
                return Ok(LocalModel::File(file));
            }
            if let Some(folder) = cache.partial_snapshot(&repo)? {
                return Ok(LocalModel::Folder(folder));
            }
            let converted = ConvertedCache::for_repo(&repo)?;
            let Some(ftype) = converted.types()?.first().copied() else { return Err(absent(name)) };
            converted.current(ftype)?.map(|(file, _)| LocalModel::File(file)).ok_or_else(|| absent(name))
        }
    }
}

/// Finds a ready GGUF file in the shared cache.
fn ready(repo: &RepoId, wanted: &Wanted, name: &str) -> Result<LocalModel, Failure> {
    let cached = ready_gguf::cached(&HubSettings::from_env()?.cache, repo, wanted, true)?;
    cached.map(LocalModel::File).ok_or_else(|| absent(name))
}

fn existing(file: PathBuf, name: &str) -> Result<LocalModel, Failure> {
    match file.try_exists() {
        Ok(true) => Ok(LocalModel::File(file)),
        Ok(false) => Err(absent(name)),
        Err(err) => Err(Failure::io(&file, "cannot access the file", &err)),
    }
}

fn absent(name: &str) -> Failure {
    let fix = match name.contains(':') {
        true => "`tulu-quant chat` with this name makes it, or give the path of a .gguf file",
        false => "`tulu-quant pull` downloads its checkpoint; `tulu-quant models` lists what is on this machine",
    };
    Failure::input(Code::NotFound, "no file of this model is on this machine", fix).at(name)
}

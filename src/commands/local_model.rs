//! What `inspect` and `verify` look at: a path, or the name of a model whose files are on this machine already. Nothing is
//! fetched and nothing is converted here.

use crate::error::{Code, Failure};
use crate::model::converted_cache::ConvertedCache;
use crate::model::hub::HubSettings;
use crate::model::model_ref::{self, ModelRef};
use crate::model::{app_dirs, bundled};
use std::ffi::OsStr;
use std::path::PathBuf;

/// Something on this machine.
#[derive(Debug)]
pub(super) enum Given {
    /// A file, of whatever kind.
    File(PathBuf),
    /// A folder, which should be a checkpoint.
    Folder(PathBuf),
}

/// What is there comes first, as in every verb. A name stands for the model's checkpoint, and with `:TYPE` for the GGUF
/// file that was made of it.
pub(super) fn given(text: &OsStr) -> Result<Given, Failure> {
    let name = &*text.to_string_lossy();
    match model_ref::parse(text)? {
        ModelRef::File(path) => Ok(Given::File(path)),
        ModelRef::Folder(path, None) => Ok(Given::Folder(path)),
        ModelRef::Folder(path, Some(_)) => {
            let fix = "give the folder, or a .gguf file that was made of it";
            Err(Failure::input(Code::Usage, "a folder has no type", fix).at(path))
        }
        ModelRef::Demo(None) => Ok(Given::Folder(bundled::folder()?)),
        ModelRef::Demo(Some(ftype)) => {
            let file =
                app_dirs::cache_dir()?.join(format!("{}-{}-{ftype}.gguf", bundled::NAME, bundled::bundle_hash()));
            there(file, name)
        }
        ModelRef::Hub(repo, Some(ftype)) => match ConvertedCache::for_repo(&repo)?.current(ftype)? {
            Some((file, _)) => Ok(Given::File(file)),
            None => Err(absent(name)),
        },
        ModelRef::Hub(repo, None) => {
            let cache = HubSettings::from_env()?.cache;
            if let Some(folder) = cache.complete_snapshot(&repo)? {
                return Ok(Given::Folder(folder));
            }
            if let Some(folder) = cache.partial_snapshot(&repo)? {
                return Ok(Given::Folder(folder));
            }
            let converted = ConvertedCache::for_repo(&repo)?;
            let Some(ftype) = converted.types()?.first().copied() else { return Err(absent(name)) };
            converted.current(ftype)?.map(|(file, _)| Given::File(file)).ok_or_else(|| absent(name))
        }
    }
}

fn there(file: PathBuf, name: &str) -> Result<Given, Failure> {
    match file.try_exists() {
        Ok(true) => Ok(Given::File(file)),
        Ok(false) => Err(absent(name)),
        Err(err) => Err(Failure::io(&file, "cannot look at the file", &err)),
    }
}

fn absent(name: &str) -> Failure {
    let fix = match name.contains(':') {
        true => "`tulu-quant chat` with this name makes it, or give the path of a .gguf file",
        false => "`tulu-quant pull` fetches its checkpoint; `tulu-quant models` lists what is here",
    };
    Failure::input(Code::NotFound, "no file of this model is on this machine", fix).at(name)
}

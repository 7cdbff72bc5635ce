//! What `inspect` and `verify` look at: a path, or the name of a model whose files are on this machine already. Nothing is
//! fetched and nothing is converted here.

use crate::error::{Code, Failure};
use crate::model::hub::Settings;
use crate::model::made::Made;
use crate::model::named::{Named, named};
use crate::model::{cache, demo};
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
    match named(text)? {
        Named::File(path) => Ok(Given::File(path)),
        Named::Folder(path, None) => Ok(Given::Folder(path)),
        Named::Folder(path, Some(_)) => {
            let fix = "give the folder, or a .gguf file that was made of it";
            Err(Failure::input(Code::Usage, "a folder has no type", fix).at(path))
        }
        Named::Demo(None) => Ok(Given::Folder(demo::folder()?)),
        Named::Demo(Some(ftype)) => {
            let file = cache::dir()?.join(format!("{}-{}-{ftype}.gguf", demo::NAME, demo::fingerprint()));
            there(file, name)
        }
        Named::Hub(repo, Some(ftype)) => match Made::of(&repo)?.current(ftype)? {
            Some((file, _)) => Ok(Given::File(file)),
            None => Err(absent(name)),
        },
        Named::Hub(repo, None) => {
            let cache = Settings::from_env()?.cache;
            if let Some(folder) = cache.complete(&repo)? {
                return Ok(Given::Folder(folder));
            }
            if let Some(folder) = cache.partly(&repo)? {
                return Ok(Given::Folder(folder));
            }
            let made = Made::of(&repo)?;
            let Some(ftype) = made.types()?.first().copied() else { return Err(absent(name)) };
            made.current(ftype)?.map(|(file, _)| Given::File(file)).ok_or_else(|| absent(name))
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

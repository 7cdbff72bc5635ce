//! What a MODEL or SOURCE on the command line names. Nothing is fetched here.

use super::hub::RepoId;
use super::{demo, registry};
use crate::error::Failure;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use tulu_quantize::Ftype;

/// A thing that can be made a GGUF file, and the type asked for after a colon.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Named {
    /// A file as it is.
    File(PathBuf),
    /// A checkpoint folder.
    Folder(PathBuf, Option<Ftype>),
    /// A repository on the Hub.
    Hub(RepoId, Option<Ftype>),
    /// The model that the program carries.
    Demo(Option<Ftype>),
}

/// What is there comes first: a file or folder of that name is never taken for a name on the Hub.
pub(crate) fn named(model: &str) -> Result<Named, Failure> {
    let path = Path::new(model);
    if path.is_file() {
        return Ok(Named::File(path.to_owned()));
    }
    if path.is_dir() {
        return Ok(Named::Folder(path.to_owned(), None));
    }
    let is_path = model.starts_with(['.', '/', '~']) || model.matches('/').count() > 1 && !model.contains('@');
    let (name, ftype) = match model.rsplit_once(':') {
        Some((name, _)) if is_path && !Path::new(name).is_dir() => (name, None),
        Some((name, ftype)) => (name, Some(parse_type(ftype)?)),
        None => (model, None),
    };
    if Path::new(name).is_dir() {
        return Ok(Named::Folder(name.into(), ftype));
    }
    if is_path || name.ends_with(".gguf") {
        return Err(Failure::input("NOT_FOUND", "there is no such file or folder", "check the path").at(path));
    }
    if name == demo::NAME {
        return Ok(Named::Demo(ftype));
    }
    Ok(Named::Hub(repo(name)?, ftype))
}

/// The repository that a short name or a Hub id stands for; those that cannot be converted are refused with the reason.
pub(crate) fn repo(name: &str) -> Result<RepoId, Failure> {
    let (short, revision) = name.split_once('@').map_or((name, None), |(n, revision)| (n, Some(revision)));
    let repo = match (name.contains('/'), registry::find(short)) {
        // a revision may have a slash in it: the short name decides
        (_, Some(entry)) => RepoId::parse(&entry.repo(revision).to_string()),
        (true, None) => RepoId::parse(name),
        (false, None) => None,
    };
    let repo = repo.ok_or_else(|| {
        let near = registry::nearest(short).map_or(String::new(), |near| format!("did you mean {near}? "));
        let fix = format!("{near}`tulu-quant models` lists the family; others are written OWNER/NAME[@REVISION]");
        Failure::input("NOT_FOUND", "is no file, folder or model of the family", fix).at(name)
    })?;
    match registry::of_repo(&repo).and_then(|entry| entry.kind.refused()) {
        Some((what, fix)) => Err(Failure::input("ARCHITECTURE", what, fix).at(repo.id())),
        None => Ok(repo),
    }
}

/// A type's name, or the list of them.
pub(crate) fn parse_type(name: &str) -> Result<Ftype, Failure> {
    Ftype::from_str(name).map_err(|err| Failure::input("TYPE", err.to_string(), "name one of these"))
}

#[cfg(test)]
mod tests {
    use super::{Ftype, Named, named};

    #[test]
    fn names_ids_and_types_are_told_apart() {
        let hub = |text: &str| match named(text).unwrap() {
            Named::Hub(repo, ftype) => (repo.to_string(), ftype),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(hub("tulu-2-DPO-13b"), ("allenai/tulu-2-dpo-13b".into(), None));
        assert_eq!(hub("tulu-2-7b:q5_k_m"), ("allenai/tulu-2-7b".into(), Some(Ftype::Q5_K_M)));
        assert_eq!(hub("tulu-2-dpo-7b@refs/pr/4"), ("allenai/tulu-2-dpo-7b@refs/pr/4".into(), None));
        assert_eq!(hub("me/mine@v1:F16"), ("me/mine@v1".into(), Some(Ftype::F16)));
        assert_eq!(named("tulu-tiny:Q8_0").unwrap(), Named::Demo(Some(Ftype::Q8_0)));
    }

    #[test]
    fn what_is_nothing_is_said_with_what_was_meant() {
        for (text, code, words) in [
            ("tulu-2-13b-dpo", "NOT_FOUND", "did you mean tulu-2-dpo-13b?"),
            ("./nothing", "NOT_FOUND", "check the path"),
            ("nothing.gguf", "NOT_FOUND", "check the path"),
            ("a/b/c", "NOT_FOUND", "check the path"),
            ("me/mine:Q9", "TYPE", "name one of these"),
            ("tulu-v2.5-13b-uf-rm", "ARCHITECTURE", "policy model"),
            ("allenai/tulu-v2-qlora-7b", "ARCHITECTURE", "merge"),
        ] {
            let failure = named(text).unwrap_err();
            assert_eq!(failure.code, code, "{text}");
            assert!(failure.fix.contains(words), "{text}: {}", failure.fix);
        }
    }
}

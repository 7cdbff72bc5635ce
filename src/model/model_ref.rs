//! Parses a MODEL or SOURCE argument. Nothing is downloaded here.

use super::bundled::Bundle;
use super::hub::RepoId;
use super::if_exists;
use super::published_gguf::{self, Wanted};
use super::{hub_url, registry};
use crate::error::{Code, Failure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use tulu_quantize::Ftype;
use tulu_quantize::platform::split_at_last;

/// A parsed MODEL argument, with the type after the colon, if there is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ModelRef {
    /// An existing file.
    File(PathBuf),
    /// A checkpoint folder.
    Folder(PathBuf, Option<Ftype>),
    /// A repository on the Hub.
    Hub(RepoId, Option<Ftype>),
    /// A GGUF file of a repository on the Hub: a file, or a type that this program does not write.
    HubGguf(RepoId, Wanted),
    /// A bundled model.
    Bundled(Bundle, Option<Ftype>),
}

/// Parses `model`. An existing file or folder has priority over a name on the Hub.
///
/// # Errors
/// `NOT_FOUND`, `TYPE`, or `ARCHITECTURE` for a model that cannot be converted.
pub(crate) fn parse(model: &OsStr) -> Result<ModelRef, Failure> {
    let path = Path::new(model);
    match if_exists::metadata(path)? {
        Some(found) if found.is_dir() => return Ok(ModelRef::Folder(path.to_owned(), None)),
        Some(found) if found.is_file() => return Ok(ModelRef::File(path.to_owned())),
        _ => {}
    }
    // a path need not be UTF-8
    if let Some((before, after)) = split_at_last(model, b':') {
        let folder = Path::new(before);
        if !before.is_empty() && if_exists::metadata(folder)?.is_some_and(|found| found.is_dir()) {
            return Ok(ModelRef::Folder(folder.to_owned(), Some(parse_type(&after.to_string_lossy())?)));
        }
    }
    match model.to_str() {
        Some(text) => parse_remote(text),
        None => Err(no_such(path)),
    }
}

/// Parses a name that is not a path on this machine, or a URL of the Hub.
pub(crate) fn parse_remote(model: &str) -> Result<ModelRef, Failure> {
    let ollama = registry::from_ollama(model).map(str::to_owned);
    let text = hub_url::to_model_name(model)?.or(ollama).unwrap_or_else(|| model.to_owned());
    let begins_as_path = text.starts_with(['.', '/', '~']);
    let text = if begins_as_path { text.as_str() } else { text.trim_end_matches('/') };
    // the file after the colon may have slashes
    let (head, tail) = text.split_once(':').map_or((text, None), |(head, tail)| (head, Some(tail)));
    let is_path = begins_as_path || head.matches('/').count() > 1 && !head.contains('@');
    if is_path || head.ends_with(".gguf") {
        return Err(no_such(Path::new(model)));
    }
    if let Some(bundle) = Bundle::find(head) {
        return Ok(ModelRef::Bundled(bundle, tail.map(parse_type).transpose()?));
    }
    match tail.and_then(published_gguf::parse) {
        // a model of the family has a checkpoint, which is converted to the types that this program writes
        Some(Wanted::Type(_)) if registry::find(head).is_some() => {}
        Some(wanted) => return Ok(ModelRef::HubGguf(repo_id(head)?, wanted)),
        None => {}
    }
    let ftype = tail.map(parse_type).transpose()?;
    Ok(ModelRef::Hub(repo_id(head)?, ftype))
}

fn no_such(path: &Path) -> Failure {
    Failure::input(Code::NotFound, "there is no such file or folder", "check the path").at(path)
}

/// Returns the repository of a short name or a Hub id.
///
/// # Errors
/// `ARCHITECTURE` for a model of the family that cannot be converted.
pub(crate) fn repo_id(name: &str) -> Result<RepoId, Failure> {
    let (short, revision) = name.split_once('@').map_or((name, None), |(n, revision)| (n, Some(revision)));
    let repo = match (name.contains('/'), registry::find(short)) {
        // a revision may contain a slash, so short names are looked up first
        (_, Some(entry)) => RepoId::parse(&entry.repo(revision).to_string()),
        (true, None) => RepoId::parse(name),
        (false, None) => None,
    };
    let repo = repo.ok_or_else(|| {
        let near = registry::nearest(short).map_or(String::new(), |near| format!("did you mean {near}? "));
        let fix = format!("{near}`tulu-quant models` lists the Tulu models; write others as OWNER/NAME[@REVISION]");
        Failure::input(Code::NotFound, "is not a file, folder or known model name", fix).at(name)
    })?;
    match registry::find_repo(&repo).and_then(|entry| entry.kind.unsupported()) {
        Some((what, fix)) => Err(Failure::input(Code::Architecture, what, fix).at(repo.id())),
        None => Ok(repo),
    }
}

/// Parses the name or alias of a type.
///
/// # Errors
/// `TYPE`, with a suggestion and the list of types.
pub(crate) fn parse_type(name: &str) -> Result<Ftype, Failure> {
    if let Some(ftype) = Ftype::from_alias(name) {
        return Ok(ftype);
    }
    Ftype::from_str(name).map_err(|err| {
        let fix = match suggested_type(name) {
            Some(near) => format!("did you mean {near}? Else name one of these"),
            None => "name one of these".to_owned(),
        };
        Failure::input(Code::Type, err.to_string(), fix)
    })
}

/// Suggests a type for a mistyped or unusual name: `Q4`, `q4km`, `4bit`, `fp16`, ollama's `latest`.
fn suggested_type(name: &str) -> Option<Ftype> {
    let squeezed = |text: &str| text.to_uppercase().replace(['_', '-', '.', ' '], "");
    let typed = squeezed(name);
    let of = |wanted: &str| Ftype::from_str(wanted).ok();
    if let Some((ftype, _)) = Ftype::ALL.into_iter().find(|(_, known)| squeezed(known) == typed) {
        return Some(ftype);
    }
    match typed.as_str() {
        "LATEST" | "DEFAULT" => return of("Q4_K_M"),
        "FP16" | "FLOAT16" | "HALF" => return of("F16"),
        "BFLOAT16" => return of("BF16"),
        "FP32" | "FLOAT32" | "FLOAT" => return of("F32"),
        _ => {}
    }
    let bits: String = typed.chars().filter(char::is_ascii_digit).collect();
    let letters: String = typed.chars().filter(|c| !c.is_ascii_digit()).collect();
    let usual = match bits.as_str() {
        "2" => "Q2_K",
        "3" => "Q3_K_M",
        "4" => "Q4_K_M",
        "5" => "Q5_K_M",
        "6" => "Q6_K",
        "8" => "Q8_0",
        _ => "",
    };
    if matches!(letters.as_str(), "" | "Q" | "QK" | "BIT" | "BITS" | "INT" | "I") && !usual.is_empty() {
        return of(usual);
    }
    let distance = |known: &str| strsim::damerau_levenshtein(&squeezed(known), &typed);
    let (ftype, known) = Ftype::ALL.into_iter().min_by_key(|(_, known)| distance(known))?;
    (distance(known) <= 1).then_some(ftype)
}

#[cfg(test)]
mod tests {
    use super::{Bundle, Ftype, ModelRef, Wanted};
    use crate::error::Code;

    fn named(text: &str) -> Result<ModelRef, super::Failure> {
        super::parse(text.as_ref())
    }

    #[test]
    fn names_ids_urls_and_types_are_parsed() {
        for (text, id, ftype) in [
            ("tulu-2-DPO-13b", "allenai/tulu-2-dpo-13b", None),
            ("tulu-2-7b:q5_k_m", "allenai/tulu-2-7b", Some(Ftype::Q5_K_M)),
            ("tulu-2-dpo-7b@refs/pr/4", "allenai/tulu-2-dpo-7b@refs/pr/4", None),
            ("me/mine@v1:F16", "me/mine@v1", Some(Ftype::F16)),
            ("me/mine/", "me/mine", None),
            ("https://huggingface.co/me/mine", "me/mine", None),
            ("https://huggingface.co/me/mine:Q8_0", "me/mine", Some(Ftype::Q8_0)),
            ("https://huggingface.co/me/mine/tree/v1", "me/mine@v1", None),
            ("hf.co/me/mine:Q8_0", "me/mine", Some(Ftype::Q8_0)),
            ("tulu-3-8b", "allenai/Llama-3.1-Tulu-3-8B", None),
            ("Llama-3.1-tulu-3-70B-dpo:Q8_0", "allenai/Llama-3.1-Tulu-3-70B-DPO", Some(Ftype::Q8_0)),
            ("tulu3:8b", "allenai/Llama-3.1-Tulu-3-8B", None),
        ] {
            match named(text).unwrap() {
                ModelRef::Hub(repo, found) => assert_eq!((repo.to_string().as_str(), found), (id, ftype), "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(named("tulu-tiny:Q8_0").unwrap(), ModelRef::Bundled(Bundle::Demo, Some(Ftype::Q8_0)));
        for (text, id, wanted) in [
            ("me/mine-GGUF:IQ2_M", "me/mine-GGUF", Wanted::Type("IQ2_M".to_owned())),
            ("me/mine@v1:a/b.gguf", "me/mine@v1", Wanted::File("a/b.gguf".to_owned())),
            ("hf.co/me/mine:b.gguf", "me/mine", Wanted::File("b.gguf".to_owned())),
            ("https://huggingface.co/me/mine/blob/main/a/b.gguf", "me/mine@main", Wanted::File("a/b.gguf".to_owned())),
            ("hf://me/mine/b.gguf", "me/mine", Wanted::File("b.gguf".to_owned())),
        ] {
            match named(text).unwrap() {
                ModelRef::HubGguf(repo, found) => {
                    assert_eq!((repo.to_string().as_str(), found), (id, wanted), "{text}")
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn unknown_names_get_suggestions() {
        for (text, code, words) in [
            ("tulu-2-13b-dpo", Code::NotFound, "did you mean tulu-2-dpo-13b?"),
            ("./nothing", Code::NotFound, "check the path"),
            ("nothing.gguf", Code::NotFound, "check the path"),
            ("a/b/c", Code::NotFound, "check the path"),
            ("a/b/c/", Code::NotFound, "check the path"),
            ("me/mine:Q9", Code::Type, "name one of these"),
            ("tulu-v2.5-13b-uf-rm", Code::Architecture, "policy model"),
            ("tulu-3-8b-rm", Code::Architecture, "policy model"),
            ("allenai/Llama-3.1-Tulu-3-8B-RM:IQ2_M", Code::Architecture, "policy model"),
            ("tulu-3-8b:IQ2_M", Code::Type, "name one of these"),
            ("Allenai/tulu-v2.5-13b-uf-rm", Code::Architecture, "policy model"),
            ("allenAI/TULU-V2.5-13B-uf-rm@main", Code::Architecture, "policy model"),
            ("allenai/tulu-v2-qlora-7b", Code::Architecture, "merge"),
        ] {
            let failure = named(text).unwrap_err();
            assert_eq!(failure.code, code, "{text}");
            assert!(failure.fix.contains(words), "{text}: {}", failure.fix);
        }
    }

    #[test]
    fn mistyped_types_get_suggestions() {
        for (typed, wanted) in [
            ("Q4", "Q4_K_M"),
            ("q4km", "Q4_K_M"),
            ("Q4-K-M", "Q4_K_M"),
            ("4bit", "Q4_K_M"),
            ("int8", "Q8_0"),
            ("latest", "Q4_K_M"),
            ("Q6", "Q6_K"),
            ("fp16", "F16"),
            ("iq4nl", "IQ4_NL"),
            ("Q5_K_N", "Q5_K_M"),
        ] {
            let fix = super::parse_type(typed).unwrap_err().fix;
            assert!(fix.starts_with(&format!("did you mean {wanted}? ")), "{typed}: {fix}");
        }
        assert_eq!(super::parse_type("GPTQ").unwrap_err().fix, "name one of these");
    }
}

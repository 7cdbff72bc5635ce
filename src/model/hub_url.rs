//! URLs of repositories as people copy them: from a browser, or from commands of ollama and huggingface_hub.

use super::hub::{endpoint_address, percent_decode};
use crate::error::{Code, Failure};

/// Hosts of the Hub, in addition to that of HF_ENDPOINT.
const HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];

/// Parts of a URL that a revision follows.
const VERBS: [&str; 6] = ["tree", "blob", "resolve", "raw", "commit", "commits"];

/// Converts a URL of the Hub to `OWNER/NAME[@REVISION][:TYPE]`, or of a GGUF file to `OWNER/NAME[@REVISION]:FILE`; `None` when `text` is not a URL.
///
/// # Errors
/// `NOT_FOUND` for a URL of anything but a model.
pub(crate) fn to_model_name(text: &str) -> Result<Option<String>, Failure> {
    let refuse = |what: &str, fix: &str| Err(Failure::input(Code::NotFound, what, fix).at(text));
    let (scheme, rest) = match text.trim().split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), text.trim()),
    };
    let path = match scheme.as_str() {
        "hf" => Some(rest),
        "" | "http" | "https" => below_host(rest, !scheme.is_empty()),
        _ => None,
    };
    let Some(path) = path else {
        if scheme.is_empty() {
            return Ok(None);
        }
        return refuse("is not a URL of the Hub", "give a model as OWNER/NAME, or download the file and give its path");
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let (path, ftype) = match path.rsplit_once(':') {
        Some((path, ftype)) if !ftype.contains('/') => (path, format!(":{ftype}")),
        _ => (path, String::new()),
    };
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
    let mut parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if matches!(parts.as_slice(), ["models", _, _, ..]) {
        parts.remove(0);
    }
    let (repo, below) = match parts.as_slice() {
        [] => return refuse("is the Hub itself, not a model", "give a model as OWNER/NAME"),
        ["datasets" | "spaces" | "collections" | "papers" | "docs" | "blog" | "api", ..] => {
            return refuse("is not a model of the Hub", "give a model as OWNER/NAME");
        }
        [name] => return Ok(Some(format!("{name}{ftype}"))),
        [owner, name, below @ ..] => (format!("{owner}/{name}"), below),
    };
    let (revision, path) = match below {
        [verb, "refs", kind, number, path @ ..] if VERBS.contains(verb) => (format!("@refs/{kind}/{number}"), path),
        [verb, revision, path @ ..] if VERBS.contains(verb) => (format!("@{revision}"), path),
        other => (String::new(), other),
    };
    let file = match path.last() {
        Some(name) if name.to_lowercase().ends_with(".gguf") => format!(":{}", path.join("/")),
        _ => ftype,
    };
    Ok(Some(format!("{repo}{revision}{file}")))
}

/// Returns the text after a host of the Hub; `None` for another host. Without `http://`, a mirror's host could also be
/// the owner in a Hub id. It is taken for a host only if OWNER/NAME follows.
fn below_host(rest: &str, has_scheme: bool) -> Option<&str> {
    let user = rest.find('@').filter(|at| rest.find('/').is_none_or(|slash| *at < slash));
    let rest = user.and_then(|at| rest.get(at + 1..)).unwrap_or(rest);
    let own = endpoint_address();
    HOSTS.into_iter().chain([own.as_str()]).find_map(|host| {
        let (begin, below) = rest.split_at_checked(host.len())?;
        let is_host = begin.eq_ignore_ascii_case(host) && (below.is_empty() || below.starts_with('/'));
        let is_sure = has_scheme || HOSTS.contains(&host) || below.trim_matches('/').contains('/');
        (is_host && is_sure).then_some(below)
    })
}

#[cfg(test)]
mod tests {
    use super::to_model_name;
    use crate::error::Code;

    #[test]
    fn urls_of_models_become_names() {
        for (address, name) in [
            ("https://huggingface.co/me/mine", "me/mine"),
            ("http://huggingface.co/me/mine/", "me/mine"),
            (" https://www.huggingface.co/me/mine//\n", "me/mine"),
            ("HTTPS://HuggingFace.co/Me/Mine", "Me/Mine"),
            ("huggingface.co/me/mine", "me/mine"),
            ("hf.co/me/mine:Q4_K_M", "me/mine:Q4_K_M"),
            ("hf://me/mine", "me/mine"),
            ("hf://me/mine@v1/config.json", "me/mine@v1"),
            ("hf://models/me/mine", "me/mine"),
            ("https://huggingface.co/me/mine/tree/main", "me/mine@main"),
            ("https://huggingface.co/me/mine/tree/v1/", "me/mine@v1"),
            ("https://huggingface.co/me/mine/tree/refs%2Fpr%2F4", "me/mine@refs/pr/4"),
            ("https://huggingface.co/me/mine/tree/refs/pr/4/sub", "me/mine@refs/pr/4"),
            ("https://huggingface.co/me/mine/blob/main/config.json", "me/mine@main"),
            ("https://huggingface.co/me/mine/resolve/v1/model.safetensors?download=true", "me/mine@v1"),
            ("https://huggingface.co/me/mine?library=transformers#files", "me/mine"),
            ("https://huggingface.co/me/mine/discussions/3", "me/mine"),
            ("https://huggingface.co/me/mine@v1:F16", "me/mine@v1:F16"),
            ("https://user:pass@huggingface.co/me/mine", "me/mine"),
            (
                "https://huggingface.co/me/mine/resolve/main/q/x.Q4_K_M.gguf?download=true",
                "me/mine@main:q/x.Q4_K_M.gguf",
            ),
            ("hf://me/mine@v1/x.gguf", "me/mine@v1:x.gguf"),
        ] {
            assert_eq!(to_model_name(address).unwrap().as_deref(), Some(name), "{address}");
        }
        for name in ["me/mine", "tulu-2-7b:Q8_0", "me/mine@v1", "hf.com/x", "huggingface.co.evil/me/mine", "x.gguf"] {
            assert_eq!(to_model_name(name).unwrap(), None, "{name}");
        }
        for (address, words) in [
            ("https://huggingface.co/datasets/me/data", "not a model"),
            ("https://huggingface.co", "not a model"),
            ("https://example.com/me/mine", "not a URL of the Hub"),
            ("ftp://huggingface.co/me/mine", "not a URL of the Hub"),
        ] {
            let failure = to_model_name(address).unwrap_err();
            assert_eq!(failure.code, Code::NotFound);
            assert!(failure.what.contains(words), "{address}: {}", failure.what);
        }
    }
}

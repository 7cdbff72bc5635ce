//! Splits a repository name like gguf-py's `Metadata.get_model_id_components` and `id_to_title`.

/// Returns name, organization, version and address of the model or data set `id`.
pub(super) fn describe(id: &str) -> Vec<(&'static str, String)> {
    const HUB: [&str; 2] = ["https://huggingface.co/", "http://huggingface.co/"];
    let is_address = ["http://", "https://", "ssh://"].iter().any(|scheme| id.starts_with(scheme));
    if !is_address {
        let (name, organization, version) = components(id);
        let address = organization.map(|owner| format!("https://huggingface.co/{owner}/{name}"));
        return parts(name, organization, version, address);
    }
    let address = Some(id.to_owned());
    let repository = HUB.iter().find_map(|hub| id.strip_prefix(hub));
    match repository
        .filter(|rest| rest.split('/').filter(|part| !part.is_empty()).count() == 2 && rest.matches('/').count() == 1)
    {
        Some(repository) => {
            let (name, organization, version) = components(repository);
            parts(name, organization, version, address)
        }
        None => vec![("repo_url", id.to_owned())],
    }
}

fn parts(
    name: &str,
    organization: Option<&str>,
    version: Option<String>,
    address: Option<String>,
) -> Vec<(&'static str, String)> {
    let mut all = vec![("name", title(name))];
    all.extend(organization.map(|owner| ("organization", title(owner))));
    all.extend(version.map(|version| ("version", version)));
    all.extend(address.map(|address| ("repo_url", address)));
    all
}

/// Returns name, owner and version of `owner/name`. A text with spaces is one name.
fn components(id: &str) -> (&str, Option<&str>, Option<String>) {
    if id.contains(' ') {
        return (id, None, None);
    }
    let (owner, name) = id.split_once('/').map_or((None, id), |(owner, name)| (Some(owner), name));
    (name, owner.filter(|owner| !owner.starts_with('.')), version(name))
}

/// The meaning of one part of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Version,
    /// A parameter count.
    Size,
    /// `mini`, `large`.
    SizeWord,
    /// A type or a known kind of tuning.
    Other,
    Unknown,
}

/// Returns the version after the first words of a name: `2` of `tulu-2`. In `tulu-2-13b` the `2` counts as a word.
fn version(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    let mut kinds: Vec<Part> = parts.iter().enumerate().map(|(i, part)| kind(i, part)).collect();
    if kinds.contains(&Part::Size) {
        kinds.iter_mut().filter(|kind| **kind == Part::SizeWord).for_each(|kind| *kind = Part::Unknown);
    }
    let first_words = parts
        .iter()
        .zip(&kinds)
        .take_while(|(part, kind)| match kind {
            Part::Version => true,
            Part::Unknown => part.starts_with(char::is_alphabetic),
            _ => false,
        })
        .count();
    // versions at the end do not count as words
    let words = if first_words == parts.len() {
        kinds.iter().rposition(|kind| *kind != Part::Version).map_or(0, |last| last.saturating_add(1))
    } else {
        first_words
    };
    let versions = parts.iter().zip(&kinds).skip(words).filter(|(_, kind)| **kind == Part::Version);
    let versions: Vec<&str> = versions.map(|(part, _)| *part).collect();
    (!versions.is_empty()).then(|| versions.join("-"))
}

/// Classifies part number `i` of a name.
fn kind(i: usize, part: &str) -> Part {
    let lower = part.to_ascii_lowercase();
    let is_word = |words: &[&str]| i > 0 && words.contains(&lower.as_str());
    if numbers(lower.strip_prefix("iter").or_else(|| lower.strip_prefix('v')).unwrap_or(&lower)) {
        Part::Version
    } else if is_type(&lower) || is_word(&["chat", "instruct", "vision", "lora"]) {
        Part::Other
    } else if i > 0 && is_size(&lower) {
        Part::Size
    } else if is_word(&["small", "mini", "medium", "large", "xl", "xxl"]) {
        Part::SizeWord
    } else {
        Part::Unknown
    }
}

/// `\d+([.]\d+)*`
fn numbers(text: &str) -> bool {
    text.split('.').all(digits)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `i?q\d(_\w)*|b?fp?(16|32)`
fn is_type(text: &str) -> bool {
    let quantized = text.strip_prefix("iq").or_else(|| text.strip_prefix('q')).is_some_and(|rest| {
        let mut chars = rest.chars();
        let digit = chars.next().is_some_and(|c| c.is_ascii_digit());
        let rest: Vec<char> = chars.collect();
        let word = |c: char| c.is_alphanumeric() || c == '_';
        digit && rest.chunks(2).all(|pair| matches!(pair, ['_', c] if word(*c)))
    });
    let float =
        text.strip_prefix('b').unwrap_or(text).strip_prefix('f').map(|rest| rest.strip_prefix('p').unwrap_or(rest));
    quantized || matches!(float, Some("16" | "32"))
}

/// `([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?`
fn is_size(text: &str) -> bool {
    let text = match text.strip_prefix('a') {
        Some(rest) => rest,
        None => text.split_once('x').filter(|(n, _)| digits(n)).map_or(text, |(_, rest)| rest),
    };
    let text = text
        .strip_suffix(|c: char| c.is_ascii_digit())
        .filter(|rest| rest.ends_with(['k', 'm', 'b', 't']))
        .unwrap_or(text);
    let Some(number) = text.strip_suffix(['k', 'm', 'b', 't']) else { return false };
    match number.split_once(['.', '_']) {
        Some((whole, part)) => digits(whole) && digits(part),
        None => digits(number),
    }
}

/// Capitalizes words in lower case and keeps versions and numbers: `tulu-2-13b` becomes `Tulu 2 13b`.
fn title(name: &str) -> String {
    let stays =
        |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) || word.strip_prefix('v').is_some_and(numbers);
    let is_lower = |word: &str| word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
    let words = name.split(|c: char| c == '-' || c.is_whitespace()).filter(|word| !word.is_empty());
    words
        .map(|word| if is_lower(word) && !stays(word) { capitals(word) } else { word.to_owned() })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Python's `str.title`: the first letter of every run of letters becomes a capital.
fn capitals(word: &str) -> String {
    let mut within = false;
    let mut out = String::new();
    for c in word.chars() {
        if within || !c.is_alphabetic() {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        within = c.is_alphabetic();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{components, describe, title};

    #[test]
    fn splits_names_as_gguf_py_does() {
        // name, title, version: of gguf 0.19.0
        for (name, titled, version) in CASES {
            assert_eq!(title(name), *titled, "{name}");
            assert_eq!(components(name).2.as_deref(), *version, "{name}");
        }
    }

    #[test]
    fn describes_addresses_and_ids() {
        let described = |id| describe(id).into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        assert_eq!(
            described("meta-llama/Llama-2-13b-hf"),
            [
                "name=Llama 2 13b Hf",
                "organization=Meta Llama",
                "repo_url=https://huggingface.co/meta-llama/Llama-2-13b-hf"
            ]
        );
        assert_eq!(
            described("https://huggingface.co/allenai/tulu-2"),
            ["name=Tulu 2", "organization=Allenai", "version=2", "repo_url=https://huggingface.co/allenai/tulu-2"]
        );
        assert_eq!(described("https://example.org/a/b"), ["repo_url=https://example.org/a/b"]);
    }

    const CASES: &[(&str, &str, Option<&str>)] = &[
        ("tulu-2", "Tulu 2", Some("2")),
        ("tulu-2-13b", "Tulu 2 13b", None),
        ("tulu-2-dpo-13b", "Tulu 2 Dpo 13b", None),
        ("tulu-v2.5-ppo-13b-uf-mean", "Tulu v2.5 Ppo 13b Uf Mean", None),
        ("Llama-2-7b-hf", "Llama 2 7b Hf", None),
        ("tulu-v2-sft-mixture", "Tulu v2 Sft Mixture", None),
        ("tulu-v1", "Tulu v1", Some("v1")),
        ("model-mini-2-7b", "Model Mini 2 7b", None),
        ("model-mini-2", "Model Mini 2", Some("2")),
        ("x-chat-v2", "X Chat v2", Some("v2")),
        ("ultrafeedback_binarized_cleaned", "Ultrafeedback_Binarized_Cleaned", None),
        ("iter3-llama", "Iter3 Llama", None),
        ("Mixtral-8x7B-Instruct-v0.1", "Mixtral 8x7B Instruct v0.1", Some("v0.1")),
        ("bloom-7b1", "Bloom 7b1", None),
        ("q4_k_m-model", "Q4_K_M Model", None),
        ("F16-x", "F16 X", None),
        ("a-q8_0-2", "A Q8_0 2", Some("2")),
        ("UPPER-lower-Mixed", "UPPER Lower Mixed", None),
        ("v1.5", "v1.5", Some("v1.5")),
        ("phi-3-medium-128k", "Phi 3 Medium 128k", None),
        ("llama3.1-8B", "Llama3.1 8B", None),
        ("7b", "7b", None),
        ("2", "2", Some("2")),
        ("hh-rlhf", "Hh Rlhf", None),
        ("oasst2", "Oasst2", None),
        ("x-A3B-1", "X A3B 1", Some("1")),
        ("1.5-pro", "1.5 Pro", None),
    ];
}

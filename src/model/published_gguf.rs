//! Chooses the GGUF file of a repository that has ready ones: by type (`Q4_K_M`), by file name, or a default. A model
//! can be split into parts (`…-00001-of-00003.gguf`); all of them are chosen together.

use crate::error::{Code, Failure};
use std::collections::BTreeMap;
use std::fmt;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The first of [`DEFAULTS`].
    Default,
    /// A type as publishers name it, in any case: `Q4_K_M`, `IQ2_XXS`, `UD-Q4_K_XL`.
    Type(String),
    /// A file, by its path in the repository or its name.
    File(String),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "Q4_K_M"),
            Self::Type(name) | Self::File(name) => write!(f, "{name}"),
        }
    }
}

/// The types to take when none is asked for, the best first. The first is llama.cpp's and ollama's default.
const DEFAULTS: [&str; 18] = [
    "Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "IQ4_XS", "IQ4_NL", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0",
    "Q3_K_L", "Q3_K_M", "Q3_K_S", "F16", "BF16", "F32",
];

/// Types that publishers use and this program does not write.
const READ_ONLY: [&str; 33] = [
    "IQ1_S",
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ2_M",
    "IQ3_XXS",
    "IQ3_XS",
    "IQ3_S",
    "IQ3_M",
    "Q2_K_S",
    "Q2_K_L",
    "Q2_K_XL",
    "Q3_K_XL",
    "Q4_K_L",
    "Q4_K_XL",
    "Q5_K_L",
    "Q5_K_XL",
    "Q6_K_L",
    "Q6_K_XL",
    "Q8_K_XL",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "MXFP4",
    "MXFP4_MOE",
    "FP16",
    "FP32",
    "IQ1_XXS",
    "IQ1_XS",
    "Q3_K_XS",
];

/// Prefixes of types that were made with an importance matrix or another recipe.
const RECIPES: [&str; 2] = ["I1-", "UD-"];

/// Parses the text after the colon of `OWNER/NAME:TEXT` if it names a file, or a type that this program does not write.
pub(crate) fn parse(text: &str) -> Option<Wanted> {
    if text.to_lowercase().ends_with(".gguf") {
        return Some(Wanted::File(text.to_owned()));
    }
    let upper = text.to_uppercase();
    let plain = RECIPES.iter().find_map(|recipe| upper.strip_prefix(recipe));
    let known = |name: &str| READ_ONLY.contains(&name) || DEFAULTS.contains(&name) || name == "Q2_K";
    match plain {
        Some(name) => known(name),
        None => READ_ONLY.contains(&upper.as_str()),
    }
    .then(|| Wanted::Type(text.to_owned()))
}

/// Returns whether `path` is a GGUF file of a model, not of a vision encoder or an importance matrix.
pub(crate) fn is_model(path: &str) -> bool {
    let path = path.to_lowercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with(".gguf") && !name.contains("mmproj") && !name.contains("imatrix") && !name.contains("ggml-vocab")
}

/// Chooses the files of one model from the `paths` of a repository, in the order of the parts.
///
/// # Errors
/// `HUB_FILE` when no file or several models match, with those that exist, or when parts are missing.
pub(crate) fn choose<'p>(paths: impl Iterator<Item = &'p str>, wanted: &Wanted) -> Result<Vec<&'p str>, Failure> {
    let mut models: BTreeMap<String, Vec<&'p str>> = BTreeMap::new();
    for path in paths.filter(|path| is_model(path)) {
        models.entry(stem(path).0.to_uppercase()).or_default().push(path);
    }
    let matching: Vec<&String> = match wanted {
        Wanted::Default => {
            let first = DEFAULTS.iter().map(|name| of_type(&models, name)).find(|found| !found.is_empty());
            first.unwrap_or_else(|| models.keys().collect())
        }
        Wanted::Type(name) => of_type(&models, &name.to_uppercase()),
        Wanted::File(name) => {
            let is_it = |path: &&str| path.eq_ignore_ascii_case(name) || file_name(path).eq_ignore_ascii_case(name);
            models.iter().filter(|(_, files)| files.iter().any(is_it)).map(|(stem, _)| stem).collect()
        }
    };
    let names = |stems: &[&String]| {
        let first = stems.iter().filter_map(|stem| models.get(*stem)?.first());
        first.map(|path| file_name(path)).collect::<Vec<_>>().join(", ")
    };
    match matching.as_slice() {
        [only] => complete(models.get(*only).cloned().unwrap_or_default()),
        [] => {
            let what = format!("has no GGUF file {wanted}; it has {}", names(&models.keys().collect::<Vec<_>>()));
            Err(Failure::input(Code::HubFile, what, "name one of these types or files after a colon"))
        }
        several => {
            let what = format!("has several GGUF files that match {wanted}: {}", names(several));
            Err(Failure::input(Code::HubFile, what, "name one of these files after a colon"))
        }
    }
}

/// Returns the models of a type. Those of another recipe count only if there is no plain one.
fn of_type<'m>(models: &'m BTreeMap<String, Vec<&str>>, name: &str) -> Vec<&'m String> {
    let synonym =
        name.strip_prefix("FP").map(|bits| format!("F{bits}")).or(name.strip_prefix('F').map(|b| format!("FP{b}")));
    let ends = |stem: &str, with: &str| {
        stem.strip_suffix(with).is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '.', '/']))
    };
    let of = |stem: &str, with: &str| ends(stem, with) || stem.rsplit_once('/').is_some_and(|(dir, _)| ends(dir, with));
    let all: Vec<&String> =
        models.keys().filter(|stem| of(stem, name) || synonym.as_ref().is_some_and(|other| of(stem, other))).collect();
    let plain = |stem: &&String| !RECIPES.iter().any(|recipe| stem.contains(&format!("{recipe}{name}")));
    let plains: Vec<&String> = all.iter().copied().filter(plain).collect();
    if plains.is_empty() { all } else { plains }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Returns a path without `.gguf` and without the number of the part, and that number and the count.
fn stem(path: &str) -> (&str, Option<(usize, usize)>) {
    let stem = path.get(..path.len().saturating_sub(".gguf".len())).unwrap_or_default();
    let part = stem.rsplit_once("-of-").and_then(|(before, count)| {
        let (before, number) = before.rsplit_once('-')?;
        let digits = |text: &str| if text.len() == 5 { text.parse().ok() } else { None };
        Some((before, (digits(number)?, digits(count)?)))
    });
    part.map_or((stem, None), |(before, part)| (before, Some(part)))
}

/// Sorts the parts of a model and checks that none is missing.
fn complete(mut files: Vec<&str>) -> Result<Vec<&str>, Failure> {
    files.sort_unstable();
    let parts: Vec<Option<(usize, usize)>> = files.iter().map(|path| stem(path).1).collect();
    let whole = match parts.as_slice() {
        [None] => true,
        [Some((_, count)), ..] => {
            parts.len() == *count && parts.iter().zip(1..).all(|(part, number)| *part == Some((number, *count)))
        }
        _ => false,
    };
    match whole {
        true => Ok(files),
        false => {
            let what = format!("does not have all parts of {}: it has {}", stem(files[0]).0, files.join(", "));
            Err(Failure::input(Code::HubFile, what, "choose another type, or ask the publisher"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Wanted, choose, parse};

    const FILES: [&str; 14] = [
        "README.md",
        "Llama-3.1-Tulu-3-8B-Q4_K_M.gguf",
        "Llama-3.1-Tulu-3-8B.i1-Q4_K_M.gguf",
        "Llama-3.1-Tulu-3-8B-Q4_K_S.gguf",
        "llama-3.1-tulu-3-8b-iq2_xxs.gguf",
        "Llama-3.1-Tulu-3-8B-UD-Q4_K_XL.gguf",
        "Llama-3.1-Tulu-3-8B-fp16.gguf",
        "Q8_0/tulu-00002-of-00002.gguf",
        "Q8_0/tulu-00001-of-00002.gguf",
        "Llama-3.1-Tulu-3-8B-Q6_K-00001-of-00002.gguf",
        "a-Q5_K_M.gguf",
        "b-Q5_K_M.gguf",
        "mmproj-Q4_K_M.gguf",
        "Tulu.imatrix.gguf",
    ];

    #[test]
    fn files_are_chosen_by_type_name_or_default() {
        let of_type = |name: &str| Wanted::Type(name.to_owned());
        for (wanted, files) in [
            (Wanted::Default, &["Llama-3.1-Tulu-3-8B-Q4_K_M.gguf"][..]),
            (of_type("q4_k_m"), &["Llama-3.1-Tulu-3-8B-Q4_K_M.gguf"]),
            (of_type("i1-Q4_K_M"), &["Llama-3.1-Tulu-3-8B.i1-Q4_K_M.gguf"]),
            (of_type("IQ2_XXS"), &["llama-3.1-tulu-3-8b-iq2_xxs.gguf"]),
            (of_type("Q4_K_XL"), &["Llama-3.1-Tulu-3-8B-UD-Q4_K_XL.gguf"]),
            (of_type("UD-Q4_K_XL"), &["Llama-3.1-Tulu-3-8B-UD-Q4_K_XL.gguf"]),
            (of_type("F16"), &["Llama-3.1-Tulu-3-8B-fp16.gguf"]),
            (of_type("Q8_0"), &["Q8_0/tulu-00001-of-00002.gguf", "Q8_0/tulu-00002-of-00002.gguf"]),
            (Wanted::File("A-q5_k_m.gguf".to_owned()), &["a-Q5_K_M.gguf"]),
            (
                Wanted::File("Q8_0/tulu-00002-of-00002.gguf".to_owned()),
                &["Q8_0/tulu-00001-of-00002.gguf", "Q8_0/tulu-00002-of-00002.gguf"],
            ),
        ] {
            assert_eq!(choose(FILES.into_iter(), &wanted).unwrap(), files, "{wanted}");
        }
        for (wanted, words) in [
            (of_type("Q2_K"), "has no GGUF file Q2_K; it has "),
            (of_type("Q5_K_M"), "several GGUF files that match Q5_K_M: a-Q5_K_M.gguf, b-Q5_K_M.gguf"),
            (of_type("Q6_K"), "does not have all parts of Llama-3.1-Tulu-3-8B-Q6_K"),
            (of_type("K_M"), "has no GGUF file K_M"),
        ] {
            let failure = choose(FILES.into_iter(), &wanted).unwrap_err();
            assert!(failure.what.contains(words), "{}", failure.what);
        }
        assert_eq!(choose(["x/model.gguf"].into_iter(), &Wanted::Default).unwrap(), ["x/model.gguf"]);
    }

    #[test]
    fn only_types_that_exist_are_parsed() {
        for text in ["IQ2_M", "ud-q4_k_xl", "i1-Q2_K", "MXFP4", "sub/x.gguf"] {
            assert!(parse(text).is_some(), "{text}");
        }
        // Types that the program writes are parsed elsewhere.
        for text in ["Q9", "Q4_K_M", "latest", "UD-Q9", "8b", ""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

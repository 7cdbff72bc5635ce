//! Licences in the model card: the terms of the family's licences, or the licence that the source's own card states. A
//! licence that is stated nowhere is unknown; it is never guessed.

use crate::error::Failure;
use crate::model::if_exists;
use crate::model::registry::Entry;
use std::path::Path;

/// Longer front matter is ignored.
const MAX_FRONT: usize = 64 << 10;

/// A licence. Unknown parts are empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Licence {
    /// The Hub's identifier, such as `apache-2.0`.
    pub(super) id: Option<String>,
    /// Its name, if the identifier is `other`.
    pub(super) name: Option<String>,
    /// Its URL.
    pub(super) link: Option<String>,
    /// A description of its terms, in Markdown.
    pub(super) terms: String,
    /// Languages of the model.
    pub(super) languages: Vec<String>,
}

/// For every model derived from Llama 2.
const LLAMA_2: &str = "\
The weights are derived from Llama 2, so the [Llama 2 Community License](https://ai.meta.com/llama/license/) and its \
[Acceptable Use Policy](https://ai.meta.com/llama/use-policy/) hold for these files too. If you redistribute them, \
include a copy of that agreement, and a notice file with the line

> Llama 2 is licensed under the LLAMA 2 Community License, Copyright (c) Meta Platforms, Inc. All Rights Reserved.";

/// For every model derived from Llama 3.
const LLAMA_3: &str = "\
The weights are derived from Llama 3, so the [Meta Llama 3 Community License](https://llama.meta.com/llama3/license/) and \
its [Acceptable Use Policy](https://llama.meta.com/llama3/use-policy) hold for these files too. If you redistribute them: \
include a copy of that agreement, display \"Built with Meta Llama 3\", begin the name of the model with \"Llama 3\", and add a \
notice file with the line

> Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.";

/// For every model derived from Llama 3.1.
const LLAMA_3_1: &str = "\
The weights are derived from Llama 3.1, so the \
[Llama 3.1 Community License](https://github.com/meta-llama/llama-models/blob/main/models/llama3_1/LICENSE) and its \
[Acceptable Use Policy](https://llama.meta.com/llama3_1/use-policy) hold for these files too. If you redistribute them: \
include a copy of that agreement, display \"Built with Llama\", begin the name of the model with \"Llama\", and add a notice \
file with the line

> Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.";

/// For Tulu 3, whose training data has outputs of other models.
const OUTPUTS: &str = "\
Parts of the training data are outputs of Gemma and Qwen, so the \
[Gemma Terms of Use](https://ai.google.dev/gemma/terms) and the Qwen License Agreement add their conditions; see the source's \
card.";

const IMPACT: &str = "\
Ai2 publishes the model under its [ImpACT license for low-risk artifacts](https://allenai.org/impact-license). \
Quantized files are derivatives in its sense; it has conditions on use and on passing derivatives on, so read it before \
you do either, and keep the repository's `LICENSE.md` with these files.";

const APACHE: &str = "\
Ai2 publishes the model under the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0): who passes these \
files on gives a copy of it with them and says that they were changed (they were quantized, which this card says). Parts \
of the preference data were published for non-commercial use only; see the source's card.";

impl Licence {
    /// Returns the licence of a model of the family, or else the licence in the README.md in `dir`.
    pub(super) fn of(entry: Option<&Entry>, dir: &Path) -> Result<Self, Failure> {
        let card = if_exists::read(&dir.join("README.md"))?.unwrap_or_default();
        let said = Self::from_card(&String::from_utf8_lossy(&card));
        Ok(entry.map_or(said.clone(), |entry| Self::of_family(entry, said)))
    }

    /// Returns the licence of a model of the family. `said` is the licence in the model's own card.
    fn of_family(entry: &Entry, said: Self) -> Self {
        let languages = if said.languages.is_empty() { vec!["en".to_owned()] } else { said.languages };
        let text = |text: &str| Some(text.to_owned());
        if entry.licence.starts_with("Llama 3.1") {
            let terms = format!("{LLAMA_3_1}\n\n{OUTPUTS}");
            return Self { id: text("llama3.1"), terms, languages, ..Self::default() };
        }
        if entry.licence.starts_with("Apache-2.0") {
            let base = match entry.licence {
                licence if licence.contains("Llama 3.1") => LLAMA_3_1,
                licence if licence.contains("Llama 3") => LLAMA_3,
                _ => LLAMA_2,
            };
            let terms = format!("{APACHE}\n\n{base}");
            return Self { id: text("apache-2.0"), terms, languages, ..Self::default() };
        }
        Self {
            id: text("other"),
            name: text("ai2-impact-license-low-risk"),
            link: text("https://allenai.org/impact-license"),
            terms: format!("{IMPACT}\n\n{LLAMA_2}"),
            languages,
        }
    }

    /// Reads the licence in a model card's front matter.
    fn from_card(card: &str) -> Self {
        let mut found = Self::default();
        let front = card.strip_prefix("---").and_then(|rest| rest.split_once("\n---")).map_or("", |(front, _)| front);
        let mut key = "";
        for line in front.lines().filter(|_| front.len() <= MAX_FRONT) {
            let value = |text: &str| Some(yaml_scalar(text)).filter(|text| !text.is_empty());
            if let Some(item) = line.trim_start().strip_prefix("- ").filter(|_| key == "language") {
                found.languages.extend(value(item));
            } else if !line.starts_with([' ', '-']) {
                let Some((name, rest)) = line.split_once(':') else { continue };
                key = name;
                match name {
                    "license" => found.id = value(rest),
                    "license_name" => found.name = value(rest),
                    "license_link" => found.link = value(rest),
                    "language" => found.languages.extend(value(rest)),
                    _ => {}
                }
            }
        }
        found.terms = match (&found.id, &found.name) {
            (None, None) => {
                "The source does not say under which licence it is published. Find out before you use these \
                files or pass them on; what holds for the source holds for them."
                    .to_owned()
            }
            (id, name) => format!(
                "The source's own card names its licence `{}`. What it asks of the source holds for these files, which \
                are derived from it.",
                name.as_ref().or(id.as_ref()).map_or("", String::as_str)
            ),
        };
        found
    }
}

/// Parses a simple YAML scalar; anything else is an empty text.
fn yaml_scalar(text: &str) -> String {
    let text = text.trim().trim_matches(['"', '\'']);
    let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:+ ".contains(c)) && text.len() <= 200;
    if fits { text.to_owned() } else { String::new() }
}

/// Returns the licence and notice files in the checkpoint's folder. A publisher of the weights may have to include
/// them.
pub(super) fn licence_files(dir: &Path) -> Result<Vec<String>, Failure> {
    let names = if_exists::list(dir)?.into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let is_paper = |name: &String| {
        let lower = name.to_lowercase();
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        plain && ["license", "licence", "notice"].iter().any(|word| lower.contains(word))
    };
    Ok(names.filter(is_paper).collect())
}

#[cfg(test)]
mod tests {
    use super::Licence;

    #[test]
    fn licences_are_read_from_cards_and_not_guessed() {
        let found = Licence::from_card(
            "---\nlanguage:\n- en\n- de\nlicense: other\nlicense_name: \"my-own\"\n---\nlicense: mit\n",
        );
        assert_eq!((found.id.as_deref(), found.name.as_deref()), (Some("other"), Some("my-own")));
        assert_eq!(found.languages, ["en", "de"]);
        for card in
            ["", "no front matter\nlicense: mit\n", "---\ntags:\n- license: mit\n---\n", "---\nlicense: a{b\n---\n"]
        {
            let found = Licence::from_card(card);
            assert_eq!((found.id, found.name), (None, None), "{card}");
            assert!(found.terms.contains("does not say"), "{card}");
        }
    }
}

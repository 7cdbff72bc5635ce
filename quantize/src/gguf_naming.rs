//! The parts of a Tulu model's name in GGUF's naming convention:
//! `<BaseName>-<SizeLabel>-<FineTune>-<Version>-<Encoding>.gguf`
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#gguf-naming-convention>). The convention
//! allows no dot in the base name, so Tulu's 2 and 2.5 become the version. `general.name` stays the repository's name.
//!
//! Names of Tulu models on Llama 3 have the versions of both and are split as llama.cpp's converter does: the base name is
//! all before the size, the fine-tuning method all after it.

/// The values of `general.basename`, `general.size_label`, `general.finetune` and `general.version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// Base name: `Tulu`, `CodeTulu`, `Llama-3.1-Tulu-3`.
    pub basename: String,
    /// Size, such as `13B`.
    pub size_label: String,
    /// Fine-tuning method: `SFT`, `DPO`, `PPO-uf-mean-13b-uf-rm`; `None` for the final Tulu 3.
    pub finetune: Option<String>,
    /// Version: `v2.0`, `v2.5`; `None` if it is in the base name.
    pub version: Option<String>,
}

impl Naming {
    /// Splits a name of the Tulu family, such as `tulu-2-dpo-13b` or `tulu-v2.5-ppo-13b-uf-mean`; `None` for other
    /// names.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::of_tulu_2(name).or_else(|| Self::of_llama_3(name))
    }

    /// Splits `Llama-3.1-Tulu-3-8B-DPO` or `llama-3-tulu-2-dpo-8b`.
    fn of_llama_3(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let base = ["llama-3-tulu-", "llama-3.1-tulu-"].iter().any(|prefix| lower.starts_with(prefix));
        let parts: Vec<&str> = name.split('-').collect();
        let at = parts.iter().skip(1).position(|part| is_size(&part.to_ascii_lowercase())).filter(|_| base)? + 1;
        let (before, after) = parts.split_at_checked(at)?;
        let (size, rest) = after.split_first()?;
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        Some(Self {
            basename: before.join("-"),
            size_label: size.to_ascii_uppercase(),
            finetune: Some(rest.join("-")).filter(|rest| !rest.is_empty()),
            version: None,
        })
    }

    /// Splits `tulu-2-dpo-13b`.
    fn of_tulu_2(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let basename = match parts.next()?.to_ascii_lowercase().as_str() {
            "tulu" => "Tulu",
            "codetulu" => "CodeTulu",
            _ => return None,
        };
        let (mut size_label, mut version, mut rest) = (None, None, Vec::new());
        for part in parts {
            let lower = part.to_ascii_lowercase();
            if version.is_none() && is_version(&lower) {
                version = Some(lower);
            } else if size_label.is_none() && is_size(&lower) {
                size_label = Some(lower.to_ascii_uppercase());
            } else if matches!(lower.as_str(), "dpo" | "ppo" | "sft") {
                rest.push(lower.to_ascii_uppercase());
            } else {
                rest.push(part.to_owned());
            }
        }
        let version = version?;
        let digits = version.trim_start_matches('v');
        let version = if digits.contains('.') { format!("v{digits}") } else { format!("v{digits}.0") };
        let finetune = if rest.is_empty() { "SFT".to_owned() } else { rest.join("-") };
        Some(Self {
            basename: basename.to_owned(),
            size_label: size_label?,
            finetune: Some(finetune),
            version: Some(version),
        })
    }

    /// Returns the file name before the encoding, such as `Tulu-13B-DPO-v2.0`.
    #[must_use]
    pub fn file_stem(&self) -> String {
        let parts = [Some(&self.basename), Some(&self.size_label), self.finetune.as_ref(), self.version.as_ref()];
        parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("-")
    }
}

/// Whether `part` is a version: `2`, `v2.5`.
fn is_version(part: &str) -> bool {
    let digits = part.strip_prefix('v').unwrap_or(part);
    !digits.is_empty() && digits.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether `part` is a size: `13b`, `6.7b`.
fn is_size(part: &str) -> bool {
    part.strip_suffix(['k', 'm', 'b', 't']).is_some_and(|n| !n.starts_with('v') && is_version(n))
}

#[cfg(test)]
mod tests {
    use super::Naming;

    #[test]
    fn names_follow_the_convention() {
        // the first three stems match the regular expression of the convention
        for (name, stem) in [
            ("tulu-2-dpo-13b", "Tulu-13B-DPO-v2.0"),
            ("tulu-2-13b", "Tulu-13B-SFT-v2.0"),
            ("tulu-v2.5-ppo-13b-uf-mean-13b-uf-rm", "Tulu-13B-PPO-uf-mean-13b-uf-rm-v2.5"),
            ("tulu-v2.5-dpo-13b-alpacafarm-gpt4-pref", "Tulu-13B-DPO-alpacafarm-gpt4-pref-v2.5"),
            ("codetulu-2-34b", "CodeTulu-34B-SFT-v2.0"),
            // as llama.cpp's converter names them
            ("Llama-3.1-Tulu-3-8B", "Llama-3.1-Tulu-3-8B"),
            ("Llama-3.1-Tulu-3-405B-DPO", "Llama-3.1-Tulu-3-405B-DPO"),
            ("llama-3-tulu-2-dpo-8b", "llama-3-tulu-2-dpo-8B"),
            ("llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm", "llama-3-tulu-v2.5-8B-uf-mean-70b-uf-rm"),
        ] {
            assert_eq!(Naming::of(name).map(|n| n.file_stem()).as_deref(), Some(stem), "{name}");
        }
    }

    #[test]
    fn ignores_other_names() {
        for name in
            ["llama-2-13b", "tulu", "tulu-tiny", "tulu-2", "my tulu-2-13b", "Llama-3.1-8B", "llama-3-tulu-2", ""]
        {
            assert_eq!(Naming::of(name), None, "{name}");
        }
    }
}

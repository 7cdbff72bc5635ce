//! The parts of a Tulu model's name that GGUF's naming convention asks for:
//! `<BaseName>-<SizeLabel>-<FineTune>-<Version>-<Encoding>.gguf`
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#gguf-naming-convention>). Its pattern allows no dot in the
//! base name, so Tulu's 2 and 2.5 go where the convention keeps versions. `general.name` stays the repository's name,
//! which is what people search for.

/// `general.basename`, `general.size_label`, `general.finetune`, `general.version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// `Tulu` or `CodeTulu`.
    pub basename: String,
    /// `13B`.
    pub size_label: String,
    /// How it was tuned: `SFT`, `DPO`, `PPO-uf-mean-13b-uf-rm`.
    pub finetune: String,
    /// `v2.0`, `v2.5`.
    pub version: String,
}

impl Naming {
    /// The parts of `name` if it is of the Tulu family, such as `tulu-2-dpo-13b` or `tulu-v2.5-ppo-13b-uf-mean`.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
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
        Some(Self { basename: basename.to_owned(), size_label: size_label?, finetune, version })
    }

    /// The file name's part before the encoding, such as `Tulu-13B-DPO-v2.0`.
    #[must_use]
    pub fn file_stem(&self) -> String {
        format!("{}-{}-{}-{}", self.basename, self.size_label, self.finetune, self.version)
    }
}

/// `2`, `v2.5`.
fn is_version(part: &str) -> bool {
    let digits = part.strip_prefix('v').unwrap_or(part);
    !digits.is_empty() && digits.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// `13b`, `6.7b`.
fn is_size(part: &str) -> bool {
    part.strip_suffix(['k', 'm', 'b', 't']).is_some_and(|n| !n.starts_with('v') && is_version(n))
}

#[cfg(test)]
mod tests {
    use super::Naming;

    #[test]
    fn the_familys_names_become_what_the_convention_accepts() {
        // the first three stems are given as passing in the convention's own pattern
        for (name, stem) in [
            ("tulu-2-dpo-13b", "Tulu-13B-DPO-v2.0"),
            ("tulu-2-13b", "Tulu-13B-SFT-v2.0"),
            ("tulu-v2.5-ppo-13b-uf-mean-13b-uf-rm", "Tulu-13B-PPO-uf-mean-13b-uf-rm-v2.5"),
            ("tulu-v2.5-dpo-13b-alpacafarm-gpt4-pref", "Tulu-13B-DPO-alpacafarm-gpt4-pref-v2.5"),
            ("codetulu-2-34b", "CodeTulu-34B-SFT-v2.0"),
        ] {
            assert_eq!(Naming::of(name).map(|n| n.file_stem()).as_deref(), Some(stem), "{name}");
        }
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in ["llama-2-13b", "tulu", "tulu-tiny", "tulu-2", "my tulu-2-13b", ""] {
            assert_eq!(Naming::of(name), None, "{name}");
        }
    }
}

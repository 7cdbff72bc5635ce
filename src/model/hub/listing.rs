//! What a repository holds at a commit: every file with its size and hash; and which of them a conversion needs. How it is
//! asked for is in `model_info.rs`.

use super::hash::FileHash;
use super::repo_id::RepoId;
use crate::error::{Code, Failure};

/// A larger "small" file is none: weights have their own rules.
const MAX_OTHER: u64 = 64 << 20;

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Path in the repository; parts are plain names.
    pub(crate) path: String,
    /// Length in bytes.
    pub(crate) size: u64,
    /// What it hashes to.
    pub(crate) hash: FileHash,
}

/// A repository at one commit.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// As it was asked for.
    pub(crate) repo: RepoId,
    /// The commit that the revision named: 40 hexadecimal digits.
    pub(crate) commit: String,
    /// Whether an agreement is asked for before files can be downloaded.
    pub(crate) gated: bool,
    /// The licence that the model card names.
    pub(crate) licence: Option<String>,
    /// Every file.
    pub(crate) files: Vec<RemoteFile>,
}

/// What a conversion needs of a repository.
#[derive(Clone, Debug)]
pub(crate) struct NeededFiles<'a> {
    /// safetensors, or else `.bin` files.
    pub(crate) weights: Vec<&'a RemoteFile>,
    /// Configuration, vocabulary, index, licence and model card.
    pub(crate) others: Vec<&'a RemoteFile>,
}

impl<'a> NeededFiles<'a> {
    /// Small files first: a broken configuration is found before gigabytes are fetched.
    pub(crate) fn all(&self) -> Vec<&'a RemoteFile> {
        self.others.iter().chain(&self.weights).copied().collect()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.all().iter().map(|file| file.size).sum()
    }
}

/// How weights are named, in order of preference: (single file, before the shard's number, ending, the index of either).
const FORMATS: [(&str, &str, &str, &str); 2] = [
    ("model.safetensors", "model-", ".safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-", ".bin", "pytorch_model.bin.index.json"),
];

impl Listing {
    /// A file by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// What a conversion needs: safetensors when the index and all shards are there, else `.bin`; and the small files.
    pub(crate) fn needed(&self) -> Result<NeededFiles<'_>, Failure> {
        let found = FORMATS.iter().find_map(|format| Some((format, self.weights(format)?)));
        let Some(((.., index), weights)) = found else {
            let (what, fix) = if self.files.iter().any(|file| file.path.ends_with(".gguf")) {
                ("holds GGUF files and no checkpoint", "download one of them and give its path")
            } else if self.file("adapter_config.json").is_some() {
                ("is a LoRA adapter, not a model", "merge it into its base model first (peft's merge_and_unload)")
            } else {
                ("has no complete set of model*.safetensors or pytorch_model*.bin files", "check the repository")
            };
            return Err(Failure::input(Code::HubNoWeights, what, fix).at(self.repo.id()));
        };
        let is_wanted = |file: &&RemoteFile| {
            let path = file.path.as_str();
            let texts = ["LICENSE", "LICENCE", "NOTICE", "README"].iter();
            let of_other = FORMATS.iter().any(|(.., other)| path == *other && path != *index);
            let kind = path.ends_with(".json") || path.ends_with(".txt") || path.ends_with(".jinja");
            let named = path == "tokenizer.model" || texts.clone().any(|t| path.to_uppercase().starts_with(t));
            !path.contains('/') && !of_other && file.size <= MAX_OTHER && (kind || named)
        };
        Ok(NeededFiles { weights, others: self.files.iter().filter(is_wanted).collect() })
    }

    /// Every file of one format, when they are all there.
    fn weights(&self, (single, before, ending, index): &(&str, &str, &str, &str)) -> Option<Vec<&RemoteFile>> {
        let shard = |file: &RemoteFile| -> Option<(u32, u32)> {
            let (n, of) = file.path.strip_prefix(before)?.strip_suffix(ending)?.split_once("-of-")?;
            Some((n.parse().ok()?, of.parse().ok()?))
        };
        let mut shards: Vec<((u32, u32), &RemoteFile)> =
            self.files.iter().filter_map(|file| Some((shard(file)?, file))).collect();
        shards.sort_by_key(|(number, _)| *number);
        let total = shards.first().map_or(0, |((_, of), _)| *of);
        let whole = total > 0 && shards.iter().map(|(number, _)| *number).eq((1..=total).map(|n| (n, total)));
        if whole && self.file(index).is_some() {
            return Some(shards.into_iter().map(|(_, file)| file).collect());
        }
        self.file(single).map(|file| vec![file])
    }
}

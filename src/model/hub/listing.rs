//! The files of a repository at a commit, with sizes and hashes, and which of them a conversion needs. The request is
//! in `model_info.rs`.

use super::hash::FileHash;
use super::repo_id::RepoId;
use crate::error::{Code, Failure};
use tulu_quantize::checkpoint::{WEIGHT_FORMATS, WeightFormat};

/// Maximum bytes of a file other than weights; a conversion needs no larger one.
const MAX_OTHER: u64 = 64 << 20;

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Path in the repository; no part is `.` or `..`.
    pub(crate) path: String,
    /// Length in bytes.
    pub(crate) size: u64,
    /// Hash of the content.
    pub(crate) hash: FileHash,
}

/// A repository at one commit.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// The repository and revision of the request.
    pub(crate) repo: RepoId,
    /// The commit of the revision: 40 hexadecimal digits.
    pub(crate) commit: String,
    /// Whether the terms on the model page have to be accepted before a download.
    pub(crate) gated: bool,
    /// The licence in the model card.
    pub(crate) licence: Option<String>,
    /// Every file.
    pub(crate) files: Vec<RemoteFile>,
}

/// The files of a repository that a conversion needs.
#[derive(Clone, Debug)]
pub(crate) struct NeededFiles<'a> {
    /// The safetensors files, or else the `.bin` files.
    pub(crate) weights: Vec<&'a RemoteFile>,
    /// Configuration, vocabulary, index, licence and model card.
    pub(crate) others: Vec<&'a RemoteFile>,
}

impl<'a> NeededFiles<'a> {
    /// Returns all files, small ones first, so that an invalid configuration is found before gigabytes are downloaded.
    pub(crate) fn all(&self) -> Vec<&'a RemoteFile> {
        self.others.iter().chain(&self.weights).copied().collect()
    }

    /// Returns the bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.all().iter().map(|file| file.size).sum()
    }
}

impl Listing {
    /// Returns a file by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Selects the files that a conversion needs: safetensors when the index and all shards are listed, else `.bin`;
    /// and the small files.
    ///
    /// # Errors
    /// `HUB_NO_WEIGHTS` when no format is complete.
    pub(crate) fn needed(&self) -> Result<NeededFiles<'_>, Failure> {
        let found = WEIGHT_FORMATS.iter().find_map(|format| Some((format, self.weights(format)?)));
        let Some((format, weights)) = found else {
            let (what, fix) = if self.files.iter().any(|file| file.path.ends_with(".gguf")) {
                (
                    "contains GGUF files and no checkpoint",
                    "`chat`, `batch` and `pull` take one of them: OWNER/NAME:TYPE",
                )
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
            let of_other = WEIGHT_FORMATS.iter().any(|other| path == other.index && path != format.index);
            let kind = path.ends_with(".json") || path.ends_with(".txt") || path.ends_with(".jinja");
            let named = path == "tokenizer.model" || texts.clone().any(|t| path.to_uppercase().starts_with(t));
            !path.contains('/') && !of_other && file.size <= MAX_OTHER && (kind || named)
        };
        Ok(NeededFiles { weights, others: self.files.iter().filter(is_wanted).collect() })
    }

    /// Returns the weight files of one format, if all of them are listed.
    fn weights(&self, format: &WeightFormat) -> Option<Vec<&RemoteFile>> {
        let shards = format.complete_set(self.files.iter().map(|file| file.path.as_str()));
        match shards.filter(|_| self.file(format.index).is_some()) {
            Some(shards) => shards.into_iter().map(|path| self.file(path)).collect(),
            None => self.file(format.single).map(|file| vec![file]),
        }
    }
}

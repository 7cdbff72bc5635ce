//! Opens and checks a Hugging Face checkpoint folder: `config`, `tokenizer` and `chat_template` read the small files;
//! `weight_index` finds the weight files, `safetensors` and `torch/` (with `zip` and `pickle/`) read their headers.
//! Weights themselves are read in `convert/`. `gguf_source.rs` opens a GGUF file as a [`Checkpoint`].

#![warn(clippy::arithmetic_side_effects)]

mod chat_template;
pub(crate) mod config;
mod json;
mod missing_weights;
mod model_card;
mod name_prefixes;
mod pickle;
mod provenance;
mod quantized;
mod safetensors;
mod sampling_defaults;
mod shard;
mod tied_embeddings;
pub mod tokenizer;
mod torch;
mod weight_files;
mod weight_formats;
mod weight_index;
mod zip;

pub use config::{Config, RopeScaling};
pub use provenance::Provenance;
pub use shard::{Shard, SourceTensor};
pub(crate) use shard::{StorageCrc, crc_mismatch, is_unused_tensor};
pub use tokenizer::{Algorithm, Token, TokenKind, Tokenizer};
pub use weight_files::WeightFiles;
pub use weight_formats::{Container, WEIGHT_FORMATS, WeightFormat};
pub use weight_index::{Opened, open_shard};

use crate::error::{Code, Error, Result};
use crate::gguf::{Value, split_stem};
use llama_ext::Ftype;
use std::path::{Path, PathBuf};
use weight_files::Folder;

/// An open checkpoint: configuration, vocabulary, chat template, and the position of every tensor.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder, or the GGUF file.
    pub dir: PathBuf,
    /// The numbers in config.json.
    pub config: Config,
    /// The vocabulary: tokenizer.model and the tokens that the JSON files add, or tokenizer.json.
    pub tokenizer: Tokenizer,
    /// The default chat template, if there is one.
    pub chat_template: Option<String>,
    /// The weight files.
    pub shards: Vec<Shard>,
    /// All tensors, in file order.
    pub tensors: Vec<SourceTensor>,
    /// Repository, revision and checksums, if the folder records them.
    pub provenance: Provenance,
    /// Warnings for the user, one sentence each.
    pub notes: Vec<String>,
    /// Further key-value pairs for the outputs.
    pub(crate) extra_metadata: ExtraMetadata,
    /// All key-value pairs of the source, when it is a GGUF file. Its tensors then have GGUF names.
    pub(crate) copied_metadata: Option<Vec<(String, Value)>>,
}

/// Key-value pairs from the small files that are written unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ExtraMetadata {
    /// Sampling defaults from generation_config.json.
    pub(crate) sampling: Vec<(String, Value)>,
    /// Pairs from the front matter of README.md.
    pub(crate) card: Vec<(String, Value)>,
    /// Pairs from the tokenizer's files.
    pub(crate) tokenizer: tokenizer::TokenizerMetadata,
    /// Named chat templates, without the default one.
    pub(crate) templates: Vec<(String, String)>,
}

impl Checkpoint {
    /// Opens and checks the folder `dir`. No weights are read yet.
    ///
    /// # Errors
    /// [`Error`] naming the file and the broken invariant.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, &Folder(dir))
    }

    /// Like [`Self::open`], but reads only the small files from `dir`, and the weights from `weights`.
    ///
    /// # Errors
    /// [`Error`] naming the file and the broken invariant.
    pub fn open_with(dir: &Path, weights: &dyn WeightFiles) -> Result<Self> {
        match std::fs::metadata(dir) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Error::new(Code::NotAFile, dir, "is not a folder", "give the checkpoint's folder")),
            Err(err) => return Err(Error::io(dir, "open the checkpoint folder", &err)),
        }
        let mut notes = Vec::new();
        let (mut config, extras) = Config::read_with(dir, &mut notes)?;
        let (tokenizer, extra) = Tokenizer::read(dir, &config, &extras, &mut notes)?;
        let chat_template::Templates { default: chat_template, named: templates } =
            chat_template::read(dir, &mut notes)?;
        let extra_metadata = ExtraMetadata {
            sampling: sampling_defaults::pairs(&extras.generation),
            card: model_card::read(dir, &mut notes)?,
            tokenizer: extra,
            templates,
        };
        let opened = weight_index::open_weights(dir, weights, &mut notes);
        let (mut shards, mut tensors) = opened.map_err(|err| quantized::explain(err, &extras))?;
        let unused = shards.iter_mut().flat_map(|shard| &mut shard.unused_tensors);
        name_prefixes::remove_prefix(&mut tensors, unused, &mut notes);
        quantized::check(dir, &tensors, &extras)?;
        tied_embeddings::untie(&mut config, &shards, &tensors, &mut notes)?;
        let names: Vec<&str> = shards.iter().filter_map(|s| s.path.file_name()?.to_str()).collect();
        let provenance = weights.provenance(&names)?;
        let dir = dir.to_owned();
        Ok(Self {
            dir,
            config,
            tokenizer,
            chat_template,
            shards,
            tensors,
            provenance,
            notes,
            extra_metadata,
            copied_metadata: None,
        })
    }

    /// Returns the model's name: the repository's if it is known, else the folder's.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some((_, name)) = self.provenance.repository.as_deref().and_then(|r| r.split_once('/')) {
            return name.to_owned();
        }
        if self.copied_metadata.is_some() {
            return without_type(&self.dir);
        }
        let full = std::fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        full.file_name().map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned())
    }

    /// Returns the GGUF file that was opened as a checkpoint (the first part of a split one); `None` for a folder.
    #[must_use]
    pub fn gguf_file(&self) -> Option<&Path> {
        self.copied_metadata.as_ref()?;
        self.shards.first().map(|part| part.path.as_path())
    }

    /// Checks that no weight file changed (length, modification time) since it was opened.
    pub(crate) fn unchanged(&self) -> Result<()> {
        for shard in &self.shards {
            let changed = shard.bytes.changed();
            if let Some(what) = changed.map_err(|err| Error::io(&shard.path, "read the file's metadata", &err))? {
                return Err(Error::new(
                    Code::InputChanged,
                    &shard.path,
                    what,
                    "run it again when nothing writes to the file",
                ));
            }
        }
        Ok(())
    }
}

/// Returns a file name without `.gguf` and type: `tulu-2-13b` for `tulu-2-13b-F16.gguf` and `tulu-2-13b.Q8_0.gguf`.
fn without_type(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let stem = split_stem(&stem).map(str::to_owned).unwrap_or(stem);
    match stem.rsplit_once(['-', '.']) {
        Some((name, kind)) if kind.parse::<Ftype>().is_ok() && !name.is_empty() => name.to_owned(),
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::without_type;
    use std::path::Path;

    #[test]
    fn removes_the_type_from_a_file_name() {
        for (file, name) in [
            ("a/tulu-2-13b-F16.gguf", "tulu-2-13b"),
            ("tulu-2-13b.q8_0.gguf", "tulu-2-13b"),
            ("tulu-v2.5.gguf", "tulu-v2.5"),
            ("model.gguf", "model"),
            ("tulu-2-70b-Q8_0-00002-of-00003.gguf", "tulu-2-70b"),
        ] {
            assert_eq!(without_type(Path::new(file)), name);
        }
    }
}

//! A Hugging Face checkpoint folder, opened and checked: what is in it, and where each tensor's bytes are.
//! (`copied_metadata.rs` makes one of a GGUF file.)

#![warn(clippy::arithmetic_side_effects)]

mod chat_template;
pub mod config;
mod json;
mod missing_weights;
mod model_card;
mod name_prefixes;
mod pickle;
mod provenance;
mod quantized;
mod safetensors;
mod sampling_defaults;
mod tied_embeddings;
pub mod tokenizer;
mod torch;
mod weight_file;
mod weight_files;
mod weight_formats;
mod weight_index;
mod zip;

pub use config::Config;
pub use provenance::Provenance;
pub use tokenizer::{Token, TokenKind, Tokenizer};
pub use weight_file::{Shard, SourceTensor};
pub(crate) use weight_file::{StorageCrc, crc_mismatch, is_unused_tensor};
pub use weight_files::WeightFiles;
pub use weight_formats::{Container, WEIGHT_FORMATS, WeightFormat};
pub use weight_index::{Opened, open_shard};

use crate::error::{Code, Error, Result};
use crate::gguf::Value;
use llama_ext::Ftype;
use std::path::{Path, PathBuf};
use weight_files::Folder;

/// A checkpoint that holds together: configuration, vocabulary, template, and tensors that lie where they should.
#[derive(Debug)]
pub struct Checkpoint {
    /// The folder.
    pub dir: PathBuf,
    /// config.json.
    pub config: Config,
    /// tokenizer.model with what the JSON files add to it.
    pub tokenizer: Tokenizer,
    /// The chat template, when the folder has one.
    pub chat_template: Option<String>,
    /// The weight files.
    pub shards: Vec<Shard>,
    /// Every tensor, in the order of the files.
    pub tensors: Vec<SourceTensor>,
    /// Where it came from, as far as the folder tells.
    pub provenance: Provenance,
    /// What a user should know but need not mend, one sentence each.
    pub notes: Vec<String>,
    /// What the metadata says extras these.
    pub(crate) extra_metadata: ExtraMetadata,
    /// Key-value pairs to carry over, when the source is a GGUF file; its tensors then have their GGUF names.
    pub(crate) copied_metadata: Option<Vec<(String, Value)>>,
}

/// What the small files say that goes into the metadata as it is, in its order there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ExtraMetadata {
    /// Of generation_config.json.
    pub(crate) sampling: Vec<(String, Value)>,
    /// Of the front matter of README.md.
    pub(crate) card: Vec<(String, Value)>,
    /// Of the tokenizer's files.
    pub(crate) tokenizer: tokenizer::TokenizerMetadata,
    /// Chat templates besides the default one, by name.
    pub(crate) templates: Vec<(String, String)>,
}

impl Checkpoint {
    /// Opens and checks the folder `dir`. No weights are read yet.
    ///
    /// # Errors
    /// [`Error`] naming the file and the invariant that does not hold.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, &Folder(dir))
    }

    /// As [`Self::open`], with the weight files from elsewhere and only the small files in `dir`.
    ///
    /// # Errors
    /// [`Error`] naming the file and the invariant that does not hold.
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
        let left_out = shards.iter_mut().flat_map(|shard| &mut shard.left_out);
        name_prefixes::take_off(&mut tensors, left_out, &mut notes);
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

    /// The model's name: the repository's, where it is known, else the folder's.
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

    /// Checks that no weight file changed since it was opened: length and time of change.
    pub(crate) fn unchanged(&self) -> Result<()> {
        for shard in &self.shards {
            let changed = shard.bytes.changed();
            if let Some(what) = changed.map_err(|err| Error::io(&shard.path, "look at the file again", &err))? {
                return Err(Error::new(Code::InputChanged, &shard.path, what, "run it again when the file is at rest"));
            }
        }
        Ok(())
    }
}

/// A file's name without `.gguf` and the type at its end: `tulu-2-13b-F16.gguf` and `tulu-2-13b.Q8_0.gguf` are of
/// `tulu-2-13b`.
fn without_type(path: &Path) -> String {
    let stem = path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
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
    fn a_files_name_loses_its_type() {
        for (file, name) in [
            ("a/tulu-2-13b-F16.gguf", "tulu-2-13b"),
            ("tulu-2-13b.q8_0.gguf", "tulu-2-13b"),
            ("tulu-v2.5.gguf", "tulu-v2.5"),
            ("model.gguf", "model"),
        ] {
            assert_eq!(without_type(Path::new(file)), name);
        }
    }
}

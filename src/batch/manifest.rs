//! The manifest next to an output: input, model, program and settings of its run. It is written atomically, after the
//! output. `merge` and a repeated command read it.

use super::format::Format;
use super::identity::{Exact, Fingerprint, Identity, Parameters};
use super::paths::beside;
use super::shard::Shard;
use crate::atomic_file::{self, Mode};
use crate::error::{Code, Failure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Manifest format version. Version 1 recorded the context size only if the user gave one.
const VERSION: u64 = 2;

/// The manifest of an output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    tulu_quant_manifest: u64,
    /// The program that wrote it.
    pub(crate) program: ProgramInfo,
    /// Format of the output.
    pub(crate) format: Format,
    /// `None`: the whole input.
    pub(crate) shard: Option<Shard>,
    /// The input.
    pub(crate) input: InputInfo,
    /// The output.
    pub(crate) output: OutputInfo,
    /// The model.
    pub(crate) model: ModelInfo,
    /// Settings for records that do not set them.
    pub(crate) parameters: Parameters,
    /// [`Identity::exact`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<Exact>,
    /// Version of the sampler ([`crate::engine::SAMPLING_VERSION`]).
    #[serde(default)]
    pub(crate) sampling: u32,
    /// Context size (`n_ctx`) of the run; `None` if no record was answered.
    pub(crate) window: Option<u32>,
    /// Totals of all runs of this output.
    pub(crate) tokens: Tokens,
    /// Figures of the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_run: Option<Value>,
    /// The manifests of the merged shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Manifest>,
}

/// The program that made an output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProgramInfo {
    /// Version, as in `--version`.
    pub(crate) version: String,
    /// Git revision.
    pub(crate) revision: String,
    /// Commit of the pinned llama.cpp.
    pub(crate) llama_cpp: String,
}

/// The input of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputInfo {
    /// Path; `-` for stdin.
    pub(crate) path: String,
    /// SHA-256, in hexadecimal.
    pub(crate) sha256: String,
    /// Number of records, including those of other shards.
    pub(crate) records: u64,
}

/// The output of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutputInfo {
    /// Path as typed.
    pub(crate) path: String,
    /// SHA-256, in hexadecimal.
    pub(crate) sha256: String,
    /// Number of records, including failed ones.
    pub(crate) records: u64,
    /// Number of failed records.
    pub(crate) failed: u64,
    /// Path of the file with the failed records, if they are not in the output.
    pub(crate) errors: Option<String>,
}

/// The model of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ModelInfo {
    /// Path of the GGUF file.
    pub(crate) path: String,
    /// Name in the results.
    pub(crate) name: String,
    /// SHA-256 of the whole file; `None` if it could not be read.
    pub(crate) sha256: Option<String>,
    /// Size and hash of samples.
    #[serde(flatten)]
    pub(crate) fingerprint: Fingerprint,
}

/// Tokens of the finished records.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// Prompt tokens.
    pub(crate) prompt: u64,
    /// Generated tokens.
    pub(crate) completion: u64,
}

impl Manifest {
    /// Creates the manifest of a run.
    pub(crate) fn new(run: &Identity, input: InputInfo, output: OutputInfo, model: ModelInfo, tokens: Tokens) -> Self {
        Self {
            tulu_quant_manifest: VERSION,
            program: ProgramInfo::this(),
            format: run.format,
            shard: run.shard,
            input,
            output,
            model,
            parameters: run.settings.clone(),
            sampling: run.sampling,
            exact: run.exact.clone(),
            window: run.window,
            tokens,
            last_run: None,
            parts: Vec::new(),
        }
    }

    /// Returns the identity of the run.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            version: self.program.version.clone(),
            model: self.model.fingerprint.clone(),
            name: self.model.name.clone(),
            format: self.format,
            settings: self.parameters.clone(),
            sampling: self.sampling,
            exact: self.exact.clone(),
            window: self.window,
            shard: self.shard,
        }
    }

    /// Writes the manifest of `output`.
    pub(crate) fn write(&self, output: &Path) -> Result<(), Failure> {
        let value = serde_json::to_value(self).map_err(|err| {
            Failure::engine(Code::Defect, format!("the manifest cannot be written: {err}"), "report this").at(output)
        })?;
        atomic_file::write(&path(output)?, format!("{value:#}\n").as_bytes(), Mode::Umask)
    }

    /// Reads the manifest of `output`; `None` if there is none. It is an error (`MANIFEST`) if the manifest is damaged
    /// or has another version.
    pub(crate) fn find(output: &Path) -> Result<Option<Self>, Failure> {
        let path = path(output)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Failure::io(&path, "cannot read the manifest", &err)),
        };
        let fix = "create the output again with this version";
        let refuse = |what: String| Failure::input(Code::Manifest, what, fix).at(&path);
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match value["tulu_quant_manifest"].as_u64() {
            Some(VERSION) => {}
            Some(other) => return Err(refuse(format!("is of version {other}; this program reads version {VERSION}"))),
            None => return Err(refuse("is not a manifest of a known version".to_owned())),
        }
        serde_json::from_value(value).map(Some).map_err(|err| refuse(format!("is damaged: {err}")))
    }

    /// Reads the manifest of `output`; an error if there is none.
    pub(crate) fn read(output: &Path) -> Result<Self, Failure> {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        Self::find(output)?.ok_or_else(|| match path(output) {
            Ok(path) => Failure::io(&path, "cannot read the manifest", &missing),
            Err(failure) => failure,
        })
    }

    /// Deletes the manifest of `output` before the output is created again.
    pub(super) fn remove(output: &Path) -> Result<(), Failure> {
        let path = path(output)?;
        match fs::remove_file(&path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Failure::io(&path, "cannot remove", &err)),
            _ => Ok(()),
        }
    }
}

impl ProgramInfo {
    /// Returns the description of this program.
    pub(crate) fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("TULU_QUANT_REVISION").to_owned(),
            llama_cpp: env!("TULU_QUANT_PIN").to_owned(),
        }
    }
}

/// Returns the path of the manifest of `output`.
pub(crate) fn path(output: &Path) -> Result<PathBuf, Failure> {
    beside(output, "", ".manifest.json")
}

//! The manifest beside an output: what it was made of, with what and how. It is written after the output, whole or absent;
//! a merge goes by it, and a run that is started again after it has finished.

use super::files::beside;
use super::format::Format;
use super::identity::{Exact, Fingerprint, Identity, Parameters};
use super::shard::Shard;
use crate::atomic_file::{self, Mode};
use crate::error::{Code, Failure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a manifest says what it is, in the version that is written now. Version 1 had no window that was not typed.
const VERSION: u64 = 2;

/// The manifest of an output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    tulu_quant_manifest: u64,
    /// What wrote it.
    pub(crate) program: ProgramInfo,
    /// How the output is written.
    pub(crate) format: Format,
    /// `None`: the whole input.
    pub(crate) shard: Option<Shard>,
    /// What was answered.
    pub(crate) input: InputInfo,
    /// What came of it.
    pub(crate) output: OutputInfo,
    /// What answered.
    pub(crate) model: ModelInfo,
    /// What the flags said about every record.
    pub(crate) parameters: Parameters,
    /// [`Identity::exact`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exact: Option<Exact>,
    /// How tokens were drawn ([`crate::engine::SAMPLING_VERSION`]).
    #[serde(default)]
    pub(crate) sampling: u32,
    /// Tokens of the window that was used; `None` where no record was answered.
    pub(crate) window: Option<u32>,
    /// Of all runs together.
    pub(crate) tokens: Tokens,
    /// How the last run went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_run: Option<Value>,
    /// The manifests of what was merged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Manifest>,
}

/// The program that made an output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProgramInfo {
    /// As `--version` has it.
    pub(crate) version: String,
    /// From version control.
    pub(crate) revision: String,
    /// The pinned commit of llama.cpp.
    pub(crate) llama_cpp: String,
}

/// The input of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputInfo {
    /// `-` for stdin.
    pub(crate) path: String,
    /// Of all its bytes.
    pub(crate) sha256: String,
    /// In all of it, other shards' included.
    pub(crate) records: u64,
}

/// The output of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutputInfo {
    /// As typed.
    pub(crate) path: String,
    /// Of all its bytes.
    pub(crate) sha256: String,
    /// Refusals included.
    pub(crate) records: u64,
    /// How many are refusals.
    pub(crate) failed: u64,
    /// Where refusals are, if they are in a file of their own.
    pub(crate) errors: Option<String>,
}

/// The model of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ModelInfo {
    /// Where it was.
    pub(crate) path: String,
    /// In the answers.
    pub(crate) name: String,
    /// Of the whole file; `None` when it could not be read to its end.
    pub(crate) sha256: Option<String>,
    /// What it is known by.
    #[serde(flatten)]
    pub(crate) fingerprint: Fingerprint,
}

/// Tokens of the finished records.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// Of the prompts.
    pub(crate) prompt: u64,
    /// Of the answers.
    pub(crate) completion: u64,
}

impl Manifest {
    /// The manifest of a run.
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

    /// What its answers depend on.
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

    /// Writes it beside `output`.
    pub(crate) fn write(&self, output: &Path) -> Result<(), Failure> {
        let value = serde_json::to_value(self).map_err(|err| {
            Failure::engine(Code::Defect, format!("the manifest cannot be written: {err}"), "report this").at(output)
        })?;
        atomic_file::write(&path(output)?, format!("{value:#}\n").as_bytes(), Mode::Umask)
    }

    /// The manifest of `output`; `None` where there is none. One of another version is an error.
    pub(crate) fn find(output: &Path) -> Result<Option<Self>, Failure> {
        let path = path(output)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(Failure::io(&path, "cannot read the manifest", &err)),
        };
        let fix = "make the output again with this version";
        let refuse = |what: String| Failure::input(Code::Manifest, what, fix).at(&path);
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match value["tulu_quant_manifest"].as_u64() {
            Some(VERSION) => {}
            Some(other) => return Err(refuse(format!("is of version {other}; this program reads version {VERSION}"))),
            None => return Err(refuse("is not a manifest that this version knows".to_owned())),
        }
        serde_json::from_value(value).map(Some).map_err(|err| refuse(format!("is damaged: {err}")))
    }

    /// The manifest of `output`, which must be there.
    pub(crate) fn read(output: &Path) -> Result<Self, Failure> {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        Self::find(output)?.ok_or_else(|| match path(output) {
            Ok(path) => Failure::io(&path, "cannot read the manifest", &missing),
            Err(failure) => failure,
        })
    }

    /// Takes the manifest of `output` away: what it tells of is being made anew.
    pub(super) fn remove(output: &Path) -> Result<(), Failure> {
        let path = path(output)?;
        match fs::remove_file(&path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Failure::io(&path, "cannot remove", &err)),
            _ => Ok(()),
        }
    }
}

impl ProgramInfo {
    /// This one.
    pub(crate) fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("TULU_QUANT_REVISION").to_owned(),
            llama_cpp: env!("TULU_QUANT_PIN").to_owned(),
        }
    }
}

/// Where the manifest of `output` is.
pub(crate) fn path(output: &Path) -> Result<PathBuf, Failure> {
    beside(output, "", ".manifest.json")
}

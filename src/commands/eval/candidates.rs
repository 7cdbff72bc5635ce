//! The models of an evaluation, before they are loaded.

use super::swap::Swap;
use crate::engine::{CacheType, EngineSettings, GpuLayers, GpuSettings, ModelDims};
use crate::error::{Code, Failure};
use crate::eval;
use crate::sanitize::shown;
use std::path::{Path, PathBuf};
use tulu_quantize::Ftype;
use tulu_quantize::checkpoint::Config;
use tulu_quantize::gguf::Gguf;

/// A model with settings.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its file.
    pub(super) path: PathBuf,
    /// Whether it is the base.
    pub(super) is_base: bool,
    /// What distinguishes it from others of the same file.
    pub(super) variant: Option<String>,
    /// How it is run.
    pub(super) settings: EngineSettings,
    pub(super) dims: ModelDims,
    pub(super) n_params: u64,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Bytes of its tensors.
    pub(super) tensor_bytes: u64,
    /// Whether the file is deleted at the end.
    pub(super) is_temporary: bool,
    /// The type in its metadata.
    pub(super) ftype: Option<Ftype>,
    /// For the base with a group of tensors of another file: the file does not exist until it is evaluated.
    pub(super) swap: Option<Swap>,
}

/// Returns the candidates: the base first, then each file with the KV cache of `settings`, then with each of `kv`. A file
/// that is the base is evaluated once. With `kv` or `offload` and no base, the first file is the base of all.
pub(super) fn candidates(
    base: Option<PathBuf>,
    files: Vec<PathBuf>,
    settings: &EngineSettings,
    kv: &[CacheType],
    offload: &[GpuLayers],
) -> Result<Vec<Candidate>, Failure> {
    let mut all: Vec<Candidate> = Vec::new();
    let base = base.or_else(|| files.first().filter(|_| !kv.is_empty() || !offload.is_empty()).cloned());
    if let Some(path) = &base {
        all.push(candidate(path, true, settings)?);
    }
    for path in &files {
        if base.as_ref().is_none_or(|base| !same_file(base, path)) {
            all.push(candidate(path, false, settings)?);
        }
        for kind in kv {
            let settings = EngineSettings { type_k: *kind, type_v: *kind, ..settings.clone() };
            let variant = Some(format!("KV {}", kind.name()));
            all.push(Candidate { variant, ..candidate(path, false, &settings.check()?)? });
        }
        for layers in offload {
            let gpu = GpuSettings { layers: *layers, ..settings.gpu.clone() };
            let settings = EngineSettings { gpu, ..settings.clone() };
            let variant = Some(format!("ngl {}", layers.name()));
            all.push(Candidate { variant, ..candidate(path, false, &settings)? });
        }
    }
    same_vocabulary(&all)?;
    Ok(all)
}

fn same_file(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| std::fs::canonicalize(path).ok();
    one == other || full(one).is_some() && full(one) == full(other)
}

fn candidate(path: &Path, is_base: bool, settings: &EngineSettings) -> Result<Candidate, Failure> {
    let gguf = Gguf::open_all_parts(path)?;
    let unsound = |what| Failure::input(Code::Model, what, "give a LLaMA model").at(path);
    let dims = ModelDims::of(&Config::from_gguf(&gguf).map_err(unsound)?, gguf.tensor_bytes());
    let (n_params, bytes, tensor_bytes) = (gguf.n_params(), gguf.len, gguf.tensor_bytes());
    let ftype = gguf.u32("general.file_type").and_then(Ftype::from_id);
    let (path, settings) = (path.to_owned(), settings.clone());
    Ok(Candidate {
        path,
        is_base,
        variant: None,
        settings,
        dims,
        n_params,
        bytes,
        tensor_bytes,
        is_temporary: false,
        ftype,
        swap: None,
    })
}

/// Checks that all models have the same vocabulary.
fn same_vocabulary(all: &[Candidate]) -> Result<(), Failure> {
    let Some((first, others)) = all.split_first() else { return Ok(()) };
    let known = eval::vocabulary(&first.path)?;
    for other in others.iter().filter(|other| other.path != first.path) {
        if eval::vocabulary(&other.path)? != known {
            let what = format!("has another vocabulary than {}", shown(&first.path));
            return Err(Failure::input(Code::Vocabulary, what, "compare files of one model").at(&other.path));
        }
    }
    Ok(())
}

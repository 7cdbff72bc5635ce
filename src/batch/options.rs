//! The checked options of a run, from which its identity, the defaults of its records and its slots are derived.

use super::defaults::Defaults;
use super::format::Format;
use super::identity::{Exact, Fingerprint, Identity, MachineSettings, Parameters};
use super::manifest::ProgramInfo;
use super::paths::is_file;
use super::shard::Shard;
use super::workload::WorkloadEstimate;
use crate::engine::{Bos, EngineSettings, GpuLayers, SAMPLING_VERSION, Sampling, VocabFile};
use crate::error::Failure;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::Path;

/// Maximum slots if the user gives no number.
const N_SLOTS_AUTO: u32 = 32;
/// A run with fewer completions than this has a slot for each.
const FEW_COMPLETIONS: u64 = 8;

/// The checked options of a run.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// The model as the user typed it.
    pub(crate) model: OsString,
    /// Settings of the engine.
    pub(crate) engine: EngineSettings,
    /// Format of input and output.
    pub(crate) format: Format,
    /// The shard that this run processes.
    pub(crate) shard: Shard,
    /// How tokens are chosen for records that do not set it.
    pub(crate) sampling: Sampling,
    /// Repetition penalty over prompt and answer (vLLM's).
    pub(crate) repetition_penalty: Option<f32>,
    /// Grammar of the answers of records that set none.
    pub(crate) grammar: Option<String>,
    /// Stop strings for records that have none.
    pub(crate) stop: Vec<String>,
    /// Completions for each prompt of a record that does not set it.
    pub(crate) num_choices: u32,
    /// Maximum tokens to generate for records that do not set it; `u32::MAX`: until the context is full.
    pub(crate) max_tokens: u32,
    /// The model's name in the results, if the user gives one.
    pub(crate) generator: Option<String>,
    /// Number of slots, if the user gives one.
    pub(crate) parallel: Option<u32>,
    /// Reproducible output.
    pub(crate) deterministic: bool,
    /// With reproducible output, the names of the GPUs that are used.
    pub(crate) gpus: Vec<String>,
    /// Fixed timestamp of all results, in seconds since 1970.
    pub(crate) stamp: Option<f64>,
}

impl RunOptions {
    /// Returns the identity of the run. `fingerprint`: of the model file at `model_file`.
    ///
    /// It has the context size that the user gave. If the user gave none, shards and deterministic runs use the
    /// training context, because the next machine may have less memory; for other runs the context size is known only
    /// after the model is loaded.
    pub(crate) fn identity(&self, model_file: &Path, fingerprint: Fingerprint) -> Result<Identity, Failure> {
        let shard = self.shard.part();
        let window = match self.engine.n_ctx {
            None if self.deterministic || shard.is_some() => {
                VocabFile::open(model_file, self.engine.bos)?.n_ctx_train()
            }
            given => given,
        };
        let program = ProgramInfo::this();
        let exact = self.deterministic.then(|| Exact {
            flash_attn: self.engine.flash_attn.name().to_owned(),
            gpu_layers: match self.engine.gpu.layers {
                GpuLayers::Count(n) => n,
                GpuLayers::All | GpuLayers::Auto => u32::MAX,
            },
            gpus: self.gpus.clone(),
            revision: program.revision,
            llama_cpp: program.llama_cpp,
            stamp: self.stamp.unwrap_or_default(),
        });
        Ok(Identity {
            version: program.version,
            model: fingerprint,
            name: self.model_name()?,
            format: self.format,
            settings: self.parameters(),
            sampling: SAMPLING_VERSION,
            exact,
            window,
            shard,
        })
    }

    fn parameters(&self) -> Parameters {
        Parameters {
            temperature: self.sampling.temperature,
            top_k: self.sampling.top_k,
            top_p: self.sampling.top_p,
            min_p: self.sampling.min_p,
            repeat_penalty: self.sampling.repeat_penalty,
            repeat_last_n: self.sampling.repeat_last_n,
            seed: self.sampling.seed,
            max_tokens: self.max_tokens,
            num_choices: self.num_choices,
            cache_types: [self.engine.type_k, self.engine.type_v].map(|cache| cache.name().to_owned()),
            generator: self.generator.clone(),
            deterministic: self.deterministic.then(|| MachineSettings {
                threads: self.engine.n_threads,
                repack: self.engine.repack.name().to_owned(),
                cores: std::thread::available_parallelism().ok().map(NonZeroUsize::get),
            }),
            repetition_penalty: self.repetition_penalty,
            grammar: self.grammar.clone(),
            presence_penalty: self.sampling.presence_penalty,
            frequency_penalty: self.sampling.frequency_penalty,
            stop: self.stop.clone(),
            bos: (self.engine.bos != Bos::Auto).then(|| self.engine.bos.name().to_owned()),
        }
    }

    /// Returns the model's name in the results: `--generator`, else the file or folder name that the user typed,
    /// because the converted file of a folder has a generated name.
    fn model_name(&self) -> Result<String, Failure> {
        if let Some(name) = &self.generator {
            return Ok(name.clone());
        }
        let typed = Path::new(&self.model);
        let name = if is_file(typed)? { typed.file_stem() } else { typed.file_name() };
        Ok(name.unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Returns the settings of records that do not set them, in the run `identity`.
    pub(crate) fn defaults(&self, identity: &Identity) -> Defaults {
        Defaults {
            format: self.format,
            shard: self.shard,
            sampling: self.sampling.clone(),
            repetition_penalty: self.repetition_penalty,
            grammar: self.grammar.clone(),
            stop: self.stop.clone(),
            n: self.num_choices,
            max_tokens: self.max_tokens,
            n_ctx_train: None,
            model: identity.name.clone(),
            typed: self.model.to_string_lossy().into_owned(),
            fingerprint: identity.fingerprint(),
            salt: identity.salt(),
            stamp: self.stamp,
        }
    }

    /// Returns the maximum number of sequences in the KV cache: the slots, and the same number of prompts that are
    /// prefilled ahead.
    pub(crate) fn n_sequences_max(&self) -> usize {
        2 * self.parallel.filter(|_| !self.deterministic).unwrap_or(N_SLOTS_AUTO) as usize
    }

    /// Returns the number of slots for the records that are left; `None`: as many as the available memory suggests.
    pub(crate) fn n_slots(&self, workload: Option<&WorkloadEstimate>) -> Option<u32> {
        if self.deterministic {
            return Some(1);
        }
        let few = workload.filter(|workload| workload.completions < FEW_COMPLETIONS);
        self.parallel.or_else(|| u32::try_from(few?.completions.max(1)).ok())
    }
}

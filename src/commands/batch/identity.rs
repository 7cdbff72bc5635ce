//! What the answers of a command depend on, and what holds for every record that does not say otherwise.

use super::job::Job;
use crate::batch::Defaults;
use crate::batch::files::is_file;
use crate::batch::identity::{Exact, Fingerprint, Identity, MachineSettings, Parameters};
use crate::batch::manifest::ProgramInfo;
use crate::engine::{SAMPLING_VERSION, VocabFile};
use crate::error::{Code, Failure};
use crate::model;
use std::num::NonZeroUsize;
use std::path::Path;

impl Job<'_> {
    /// Everything that the answers depend on. The window is the one that was typed. Where none was, shards and
    /// `--deterministic` get the one that the model was trained for, because the next machine may have less memory; else it is
    /// not known before the model is loaded.
    pub(super) fn identity(&self, model: &Path) -> Result<Identity, Failure> {
        let fingerprint: Fingerprint = serde_json::from_value(model::fingerprint(model)?).map_err(|err| {
            Failure::engine(Code::Defect, format!("a fingerprint without its fields: {err}"), "report this")
        })?;
        let shard = self.shard.part();
        let window = match self.settings.n_ctx {
            None if self.args.deterministic || shard.is_some() => VocabFile::open(model)?.n_ctx_train(),
            typed => typed,
        };
        let program = ProgramInfo::this();
        let exact = self.args.deterministic.then(|| Exact {
            flash_attn: self.settings.flash_attn.name().to_owned(),
            gpu_layers: self.settings.n_gpu_layers,
            revision: program.revision,
            llama_cpp: program.llama_cpp,
            stamp: self.stamp().unwrap_or_default(),
        });
        let settings = self.parameters()?;
        let name = self.name()?;
        Ok(Identity {
            version: program.version,
            model: fingerprint,
            name,
            format: self.format,
            settings,
            sampling: SAMPLING_VERSION,
            exact,
            window,
            shard,
        })
    }

    fn parameters(&self) -> Result<Parameters, Failure> {
        let (args, sampling) = (self.args, &self.sampling);
        Ok(Parameters {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            repeat_last_n: sampling.repeat_last_n,
            seed: sampling.seed,
            max_tokens: self.max_tokens()?,
            num_choices: args.num_choices,
            cache_types: [self.settings.type_k, self.settings.type_v].map(|cache| cache.name().to_owned()),
            generator: args.generator.clone(),
            deterministic: args.deterministic.then(|| MachineSettings {
                threads: self.settings.n_threads,
                repack: self.settings.repack.name().to_owned(),
                cores: std::thread::available_parallelism().ok().map(NonZeroUsize::get),
            }),
            repetition_penalty: args.repetition_penalty,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            stop: args.stop.clone(),
        })
    }

    fn max_tokens(&self) -> Result<u32, Failure> {
        self.args.sampling.max_tokens(self.format.max_tokens())
    }

    /// The model's name in the answers: as the user calls it, because a folder's converted file has a name of the cache's
    /// making.
    fn name(&self) -> Result<String, Failure> {
        if let Some(name) = &self.args.generator {
            return Ok(name.clone());
        }
        let typed = Path::new(self.model);
        let name = if is_file(typed)? { typed.file_stem() } else { typed.file_name() };
        Ok(name.unwrap_or_default().to_string_lossy().into_owned())
    }

    /// What holds for every record that does not say otherwise, in the run `identity`.
    pub(super) fn defaults(&self, identity: &Identity) -> Result<Defaults, Failure> {
        Ok(Defaults {
            format: self.format,
            shard: self.shard,
            sampling: self.sampling.clone(),
            repetition_penalty: self.args.repetition_penalty,
            stop: self.args.stop.clone(),
            n: self.args.num_choices,
            max_tokens: self.max_tokens()?,
            n_ctx_train: None,
            model: identity.name.clone(),
            typed: self.model.to_string_lossy().into_owned(),
            fingerprint: identity.fingerprint(),
            salt: identity.salt(),
            stamp: self.stamp(),
        })
    }

    /// The time in the answers where it is not that of the clock: reproducible builds have a variable for it.
    fn stamp(&self) -> Option<f64> {
        let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse::<u32>().ok());
        given.map(f64::from).or_else(|| self.args.deterministic.then_some(0.0))
    }
}

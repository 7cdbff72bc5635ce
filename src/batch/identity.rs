//! The identity of a run: everything that its answers depend on. The journal and the manifest store it; a resumed run,
//! `merge` and a repeated command compare it.

use super::format::Format;
use super::shard::Shard;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tulu_quantize::hex;

/// The identity of a run. Threads and slots are part of it only in deterministic runs, so that another machine can
/// resume other runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Version of this program.
    pub(crate) version: String,
    /// The model file.
    pub(crate) model: Fingerprint,
    /// The model's name in the results.
    pub(crate) name: String,
    /// Format of input and output.
    pub(crate) format: Format,
    /// Settings for records that do not set them.
    pub(crate) settings: Parameters,
    /// Version of the sampler ([`crate::engine::SAMPLING_VERSION`]); not in journals of version 1.
    #[serde(default)]
    pub(crate) sampling: u32,
    /// In deterministic runs: everything else that the bytes of the output depend on.
    pub(crate) exact: Option<Exact>,
    /// Context size (`n_ctx`) of the run, in tokens, even if the user gave none; `None` before a model is loaded.
    pub(crate) window: Option<u32>,
    /// `None`: the whole input.
    pub(crate) shard: Option<Shard>,
}

/// Identifies a model file by its size and a hash of samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// Size of the file, in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of samples, in hexadecimal.
    pub(crate) sha256_of_samples: String,
}

/// Settings for records that do not set them. Result ids are hashes of these values, so a new field must not be
/// serialized when it has no effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parameters {
    /// Sampling temperature.
    pub(crate) temperature: f32,
    /// Top-k.
    pub(crate) top_k: u32,
    /// Nucleus sampling.
    pub(crate) top_p: f32,
    /// Min-p.
    pub(crate) min_p: f32,
    /// Repetition penalty over the last tokens (llama.cpp's).
    pub(crate) repeat_penalty: f32,
    /// Number of tokens for `repeat_penalty`.
    pub(crate) repeat_last_n: u32,
    /// Random seed.
    pub(crate) seed: u32,
    /// Maximum tokens to generate.
    pub(crate) max_tokens: u32,
    /// Completions for each prompt.
    pub(crate) num_choices: u32,
    /// Types of the KV cache: keys, values.
    pub(crate) cache_types: [String; 2],
    /// `--generator`.
    pub(crate) generator: Option<String>,
    /// In deterministic runs: the settings of the machine that the answers depend on.
    pub(crate) deterministic: Option<MachineSettings>,
    /// Repetition penalty over prompt and answer (vLLM's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repetition_penalty: Option<f32>,
    /// Presence penalty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) presence_penalty: f32,
    /// Frequency penalty.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) frequency_penalty: f32,
    /// `--json-schema` or `--grammar`, as a grammar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grammar: Option<String>,
    /// `--stop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
    /// `--bos`, if it is not `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bos: Option<String>,
}

/// The settings of a machine that the last bits of the logits depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineSettings {
    /// `--threads`.
    pub(crate) threads: Option<u32>,
    /// `--repack`.
    pub(crate) repack: String,
    /// CPUs that the process may use.
    pub(crate) cores: Option<usize>,
}

/// Everything else that the bytes of a deterministic run depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exact {
    /// `--flash-attn`.
    pub(crate) flash_attn: String,
    /// `--gpu-layers`; [`u32::MAX`] for all.
    pub(crate) gpu_layers: u32,
    /// The GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) gpus: Vec<String>,
    /// Git revision of this program.
    pub(crate) revision: String,
    /// Commit of the pinned llama.cpp.
    pub(crate) llama_cpp: String,
    /// Timestamp of the results, in seconds since 1970.
    pub(crate) stamp: f64,
}

impl Identity {
    /// Returns the names of the settings that differ from `other`. The shard is not compared; the context size only if
    /// both are known.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let exact = |of: fn(&Exact) -> String| self.exact.as_ref().map(of) != other.exact.as_ref().map(of);
        let both = self.exact.is_some() && other.exact.is_some();
        let context_sizes = self.window.zip(other.window).is_some_and(|(ours, theirs)| ours != theirs);
        let fields = [
            ("version of the program", self.version != other.version),
            ("model", self.model != other.model),
            ("name of the model", self.name != other.name),
            ("format", self.format != other.format),
            ("settings", self.settings != other.settings),
            ("order of the samplers", self.sampling != other.sampling),
            ("flash attention", both && exact(|exact| exact.flash_attn.clone())),
            ("GPU layers", both && exact(|exact| exact.gpu_layers.to_string())),
            ("GPU", both && exact(|exact| exact.gpus.join(","))),
            ("build of the program", both && exact(|exact| exact.revision.clone())),
            ("llama.cpp", both && exact(|exact| exact.llama_cpp.clone())),
            ("SOURCE_DATE_EPOCH", both && exact(|exact| exact.stamp.to_string())),
            (CONTEXT_SIZE, context_sizes),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// Returns the `system_fingerprint` of the results: identifies the model file and the program.
    pub(crate) fn fingerprint(&self) -> String {
        format!("fp_{}", &digest(&[json(&self.model), json(&self.version)])[..10])
    }

    /// Returns the hash that is part of result ids.
    pub(crate) fn salt(&self) -> String {
        digest(&[json(&self.model), json(&self.format), json(&self.settings), json(&self.version)])
    }
}

/// Name of the only difference that --retry-errors allows.
pub(super) const CONTEXT_SIZE: &str = "context size";

fn digest(fields: &[String]) -> String {
    hex(&fields.iter().fold(Sha256::new(), |hash, field| hash.chain_update(field)).finalize())
}

/// Serializes through a JSON value, which writes an f32 with the digits of an f64: result ids depend on these digits.
fn json(value: &impl Serialize) -> String {
    serde_json::to_value(value).unwrap_or_default().to_string()
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Exact, Fingerprint, Format, Identity, Parameters};

    /// A run of this model.
    pub(in crate::batch) fn identity(model: &str) -> Identity {
        Identity {
            version: "0.1.0".to_owned(),
            model: Fingerprint { bytes: 7, sha256_of_samples: model.to_owned() },
            name: "tulu".to_owned(),
            format: Format::Openai,
            settings: Parameters {
                temperature: 0.7,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                repeat_penalty: 1.0,
                repeat_last_n: 64,
                seed: 0,
                max_tokens: u32::MAX,
                num_choices: 1,
                cache_types: ["f16", "f16"].map(str::to_owned),
                generator: None,
                deterministic: None,
                repetition_penalty: None,
                grammar: None,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                stop: Vec::new(),
                bos: None,
            },
            sampling: 2,
            exact: None,
            window: Some(512),
            shard: None,
        }
    }

    #[test]
    fn result_ids_are_stable() {
        let json = r#"{"bytes":7,"sha256_of_samples":"m"}"openai"{"temperature":0.699999988079071,"top_k":0,"top_p":1.0,"min_p":0.0,"repeat_penalty":1.0,"repeat_last_n":64,"seed":0,"max_tokens":4294967295,"num_choices":1,"cache_types":["f16","f16"],"generator":null,"deterministic":null}"0.1.0""#;
        assert_eq!(identity("m").salt(), super::digest(&[json.to_owned()]));
    }

    #[test]
    fn every_difference_has_a_name() {
        let exact = Exact {
            flash_attn: "auto".to_owned(),
            gpu_layers: 0,
            gpus: Vec::new(),
            revision: "r".to_owned(),
            llama_cpp: "l".to_owned(),
            stamp: 0.0,
        };
        let one = Identity { exact: Some(exact.clone()), ..identity("m") };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), one, "serialization round trip");
        assert!(one.differences(&one).is_empty());
        let with = |change: fn(&mut Identity)| {
            let mut other = one.clone();
            change(&mut other);
            one.differences(&other)
        };
        assert_eq!(with(|other| other.model.bytes = 8), ["model"]);
        assert_eq!(with(|other| other.name.push('x')), ["name of the model"]);
        assert_eq!(with(|other| other.settings.stop.push("x".into())), ["settings"]);
        assert_eq!(with(|other| other.window = Some(256)), ["context size"]);
        assert!(with(|other| other.window = None).is_empty(), "not known yet");
        let engine = |change: fn(&mut Exact)| {
            let mut other = exact.clone();
            change(&mut other);
            one.differences(&Identity { exact: Some(other), ..one.clone() })
        };
        assert_eq!(engine(|exact| exact.flash_attn = "off".into()), ["flash attention"]);
        assert_eq!(engine(|exact| exact.gpu_layers = 1), ["GPU layers"]);
        assert_eq!(engine(|exact| exact.gpus.push("CUDA0".into())), ["GPU"]);
        assert_eq!(engine(|exact| exact.revision.clear()), ["build of the program"]);
        assert_eq!(engine(|exact| exact.llama_cpp.clear()), ["llama.cpp"]);
        assert_eq!(engine(|exact| exact.stamp = 1.0), ["SOURCE_DATE_EPOCH"]);
    }
}

//! What the answers of a run depend on, as one value. The journal keeps it to know its run again, the manifest tells it, a
//! merge compares it from part to part.

use super::format::Format;
use super::shard::Shard;
use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What run this is. Threads and slots are left out: another machine may go on with a run, unless the last bit counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Of this program.
    pub(crate) version: String,
    /// The model's file.
    pub(crate) model: Fingerprint,
    /// The model's name in the answers.
    pub(crate) name: String,
    /// How records and results are written.
    pub(crate) format: Format,
    /// What the flags say about every record.
    pub(crate) settings: Parameters,
    /// How tokens are drawn ([`crate::engine::SAMPLING_VERSION`]); journals of the first version do not say it.
    #[serde(default)]
    pub(crate) sampling: u32,
    /// With `--deterministic`: what else the bytes depend on.
    pub(crate) exact: Option<Exact>,
    /// Tokens of the window that was used (`n_ctx`), typed or not; `None` before a model was loaded.
    pub(crate) window: Option<u32>,
    /// `None`: the whole input.
    pub(crate) shard: Option<Shard>,
}

/// A model's file, known by its size and a hash of parts of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// Of the file.
    pub(crate) bytes: u64,
    /// In hexadecimal.
    pub(crate) sha256_of_samples: String,
}

/// The flags that hold for every record which does not say otherwise. A field that is added is left out where it has no
/// effect: names of answers are hashes of this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parameters {
    /// As everywhere.
    pub(crate) temperature: f32,
    /// As everywhere.
    pub(crate) top_k: u32,
    /// As everywhere.
    pub(crate) top_p: f32,
    /// As everywhere.
    pub(crate) min_p: f32,
    /// llama.cpp's.
    pub(crate) repeat_penalty: f32,
    /// llama.cpp's.
    pub(crate) repeat_last_n: u32,
    /// Where random numbers begin.
    pub(crate) seed: u32,
    /// Tokens of an answer at most.
    pub(crate) max_tokens: u32,
    /// Answers to each prompt.
    pub(crate) num_choices: u32,
    /// Types of the KV cache: keys, values.
    pub(crate) cache_types: [String; 2],
    /// `--generator`.
    pub(crate) generator: Option<String>,
    /// With `--deterministic`: what computes.
    pub(crate) deterministic: Option<MachineSettings>,
    /// vLLM's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repetition_penalty: Option<f32>,
    /// OpenAI's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) presence_penalty: f32,
    /// OpenAI's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) frequency_penalty: f32,
    /// `--stop`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
}

/// The part of a machine that the last bits of a logit depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineSettings {
    /// `--threads`.
    pub(crate) threads: Option<u32>,
    /// `--repack`.
    pub(crate) repack: String,
    /// Cores that the process may use.
    pub(crate) cores: Option<usize>,
}

/// The rest of what the bytes depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exact {
    /// `--flash-attn`.
    pub(crate) flash_attn: String,
    /// `--gpu-layers`.
    pub(crate) gpu_layers: u32,
    /// Of this program, from version control.
    pub(crate) revision: String,
    /// The pinned commit.
    pub(crate) llama_cpp: String,
    /// The time in the answers, in seconds since 1970.
    pub(crate) stamp: f64,
}

impl Identity {
    /// What differs from `other`, in words; the shard is not looked at. Windows are compared where both are known.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let exact = |of: fn(&Exact) -> String| self.exact.as_ref().map(of) != other.exact.as_ref().map(of);
        let both = self.exact.is_some() && other.exact.is_some();
        let windows = self.window.zip(other.window).is_some_and(|(ours, theirs)| ours != theirs);
        let fields = [
            ("version of the program", self.version != other.version),
            ("model", self.model != other.model),
            ("name of the model", self.name != other.name),
            ("format", self.format != other.format),
            ("settings", self.settings != other.settings),
            ("order of the samplers", self.sampling != other.sampling),
            ("flash attention", both && exact(|exact| exact.flash_attn.clone())),
            ("GPU layers", both && exact(|exact| exact.gpu_layers.to_string())),
            ("build of the program", both && exact(|exact| exact.revision.clone())),
            ("llama.cpp", both && exact(|exact| exact.llama_cpp.clone())),
            ("SOURCE_DATE_EPOCH", both && exact(|exact| exact.stamp.to_string())),
            (WINDOW, windows),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// Names the model file and the program in the answers.
    pub(crate) fn fingerprint(&self) -> String {
        format!("fp_{}", &digest(&[json(&self.model), json(&self.version)])[..10])
    }

    /// Mixed into the names of answers, which no other run gives.
    pub(crate) fn salt(&self) -> String {
        digest(&[json(&self.model), json(&self.format), json(&self.settings), json(&self.version)])
    }
}

/// The one difference that a retry may have.
pub(super) const WINDOW: &str = "window";

fn digest(fields: &[String]) -> String {
    hex(&fields.iter().fold(Sha256::new(), |hash, field| hash.chain_update(field)).finalize())
}

/// As a value first, which writes an f32 with the digits of an f64: names of answers depend on them.
fn json(value: &impl Serialize) -> String {
    serde_json::to_value(value).unwrap_or_default().to_string()
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Exact, Fingerprint, Format, Identity, Parameters};

    /// A run of the model `model`.
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
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                stop: Vec::new(),
            },
            sampling: 2,
            exact: None,
            window: Some(512),
            shard: None,
        }
    }

    #[test]
    fn names_of_answers_are_those_of_the_first_version() {
        let json = r#"{"bytes":7,"sha256_of_samples":"m"}"openai"{"temperature":0.699999988079071,"top_k":0,"top_p":1.0,"min_p":0.0,"repeat_penalty":1.0,"repeat_last_n":64,"seed":0,"max_tokens":4294967295,"num_choices":1,"cache_types":["f16","f16"],"generator":null,"deterministic":null}"0.1.0""#;
        assert_eq!(identity("m").salt(), super::digest(&[json.to_owned()]));
    }

    #[test]
    fn every_difference_has_its_name() {
        let exact = Exact {
            flash_attn: "auto".to_owned(),
            gpu_layers: 0,
            revision: "r".to_owned(),
            llama_cpp: "l".to_owned(),
            stamp: 0.0,
        };
        let one = Identity { exact: Some(exact.clone()), ..identity("m") };
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), one, "read as it was written");
        assert!(one.differences(&one).is_empty());
        let with = |change: fn(&mut Identity)| {
            let mut other = one.clone();
            change(&mut other);
            one.differences(&other)
        };
        assert_eq!(with(|other| other.model.bytes = 8), ["model"]);
        assert_eq!(with(|other| other.name.push('x')), ["name of the model"]);
        assert_eq!(with(|other| other.settings.stop.push("x".into())), ["settings"]);
        assert_eq!(with(|other| other.window = Some(256)), ["window"]);
        assert!(with(|other| other.window = None).is_empty(), "not known yet");
        let engine = |change: fn(&mut Exact)| {
            let mut other = exact.clone();
            change(&mut other);
            one.differences(&Identity { exact: Some(other), ..one.clone() })
        };
        assert_eq!(engine(|exact| exact.flash_attn = "off".into()), ["flash attention"]);
        assert_eq!(engine(|exact| exact.gpu_layers = 1), ["GPU layers"]);
        assert_eq!(engine(|exact| exact.revision.clear()), ["build of the program"]);
        assert_eq!(engine(|exact| exact.llama_cpp.clear()), ["llama.cpp"]);
        assert_eq!(engine(|exact| exact.stamp = 1.0), ["SOURCE_DATE_EPOCH"]);
    }
}

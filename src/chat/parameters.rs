//! Settings of answers that a user can change in a conversation. Each has one row in a table.

use crate::engine::Sampling;
use crate::error::{Code, Failure};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::str::FromStr;

/// Settings of answers.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    /// Sampling settings, checked.
    pub(crate) sampling: Sampling,
    /// Maximum tokens to generate; `u32::MAX`: until the context is full.
    pub(crate) max_tokens: u32,
    /// Stop strings, in addition to Tulu's own markers.
    pub(crate) stop: Vec<String>,
}

/// A row of the table: names, help, and how to print and set the value.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Names in llama.cpp and other programs.
    pub(super) aliases: &'static [&'static str],
    pub(super) help: &'static str,
    pub(super) show: fn(&Parameters) -> String,
    set: fn(&mut Parameters, &str) -> Option<()>,
}

/// All parameters, in the order of `/show parameters`.
pub(super) const TABLE: [Parameter; 11] = [
    Parameter {
        name: "temperature",
        aliases: &["temp"],
        help: "sampling temperature; 0 is greedy",
        show: |p| p.sampling.temperature.to_string(),
        set: |p, text| put(&mut p.sampling.temperature, text),
    },
    Parameter {
        name: "top_k",
        aliases: &["topk"],
        help: "sample from the K most likely tokens; 0: from all",
        show: |p| p.sampling.top_k.to_string(),
        set: |p, text| put(&mut p.sampling.top_k, text),
    },
    Parameter {
        name: "top_p",
        aliases: &["topp"],
        help: "sample from the smallest set of tokens whose probabilities add up to this",
        show: |p| p.sampling.top_p.to_string(),
        set: |p, text| put(&mut p.sampling.top_p, text),
    },
    Parameter {
        name: "min_p",
        aliases: &["minp"],
        help: "drop tokens less likely than this times the most likely one",
        show: |p| p.sampling.min_p.to_string(),
        set: |p, text| put(&mut p.sampling.min_p, text),
    },
    Parameter {
        name: "repeat_penalty",
        aliases: &[],
        help: "penalty for recent tokens; 1 does nothing",
        show: |p| p.sampling.repeat_penalty.to_string(),
        set: |p, text| put(&mut p.sampling.repeat_penalty, text),
    },
    Parameter {
        name: "repeat_last_n",
        aliases: &[],
        help: "number of recent tokens that repeat_penalty looks at",
        show: |p| p.sampling.repeat_last_n.to_string(),
        set: |p, text| put(&mut p.sampling.repeat_last_n, text),
    },
    Parameter {
        name: "presence_penalty",
        aliases: &[],
        help: "subtract this from the logits of tokens that are in the answer; 0 does nothing",
        show: |p| p.sampling.presence_penalty.to_string(),
        set: |p, text| put(&mut p.sampling.presence_penalty, text),
    },
    Parameter {
        name: "frequency_penalty",
        aliases: &[],
        help: "the same for each time that they are in the answer; 0 does nothing",
        show: |p| p.sampling.frequency_penalty.to_string(),
        set: |p, text| put(&mut p.sampling.frequency_penalty, text),
    },
    Parameter {
        name: "seed",
        aliases: &[],
        help: "random seed; -1 picks a new one",
        show: |p| p.sampling.seed.to_string(),
        set: |p, text| match text {
            "-1" => {
                p.sampling.seed = crate::engine::random_seed();
                Some(())
            }
            _ => put(&mut p.sampling.seed, text),
        },
    },
    Parameter {
        name: "num_predict",
        aliases: &["n_predict", "predict", "max_tokens", "n"],
        help: "maximum tokens to generate; -1: until the context is full",
        show: |p| if p.max_tokens == u32::MAX { "-1".to_owned() } else { p.max_tokens.to_string() },
        set: |p, text| match text {
            "-1" => {
                p.max_tokens = u32::MAX;
                Some(())
            }
            "0" => None,
            _ => put(&mut p.max_tokens, text),
        },
    },
    Parameter {
        name: "stop",
        aliases: &[],
        help: "add a stop string; without a value, remove all",
        show: |p| p.stop.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" "),
        set: |p, text| {
            match text {
                "" => p.stop.clear(),
                // The text as typed, or a JSON string, for text that begins with a space or contains a newline.
                _ => p.stop.push(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned())),
            }
            Some(())
        },
    },
];

fn put<T: FromStr + Display>(place: &mut T, text: &str) -> Option<()> {
    *place = text.parse().ok()?;
    Some(())
}

/// Returns the row with this name or alias.
pub(super) fn find(name: &str) -> Option<&'static Parameter> {
    TABLE.iter().find(|row| row.name == name || row.aliases.contains(&name))
}

impl Parameter {
    /// Sets the value from `text`.
    ///
    /// # Errors
    /// `PARAMETER` or `SAMPLING` for an invalid value; then `parameters` are unchanged.
    pub(super) fn set(&self, parameters: &mut Parameters, text: &str) -> Result<(), Failure> {
        let mut changed = parameters.clone();
        let wrong = || {
            let what = format!("invalid value '{text}' for {}", self.name);
            Failure::input(Code::Parameter, what, format!("see /set: {}", self.help))
        };
        (self.set)(&mut changed, text).ok_or_else(wrong)?;
        changed.sampling = changed.sampling.check()?;
        *parameters = changed;
        Ok(())
    }
}

/// The parameters in the file of a saved conversation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    repeat_last_n: u32,
    #[serde(default)]
    presence_penalty: f32,
    #[serde(default)]
    frequency_penalty: f32,
    seed: u32,
    /// Absent: until the context is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
}

impl From<&Parameters> for Stored {
    fn from(parameters: &Parameters) -> Self {
        let sampling = &parameters.sampling;
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            repeat_last_n: sampling.repeat_last_n,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            seed: sampling.seed,
            max_tokens: (parameters.max_tokens != u32::MAX).then_some(parameters.max_tokens),
            stop: parameters.stop.clone(),
        }
    }
}

impl Stored {
    /// Returns the parameters. Validates them like flags, because the user may have edited the file.
    pub(super) fn parameters(&self) -> Result<Parameters, Failure> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
        };
        let max_tokens = self.max_tokens.unwrap_or(u32::MAX);
        if max_tokens == 0 {
            return Err(Failure::input(Code::Predict, "max_tokens is 0", "set max_tokens to 1 or more"));
        }
        Ok(Parameters { sampling: sampling.check()?, max_tokens, stop: self.stop.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Parameters, Stored, TABLE, find};
    use crate::engine::Sampling;

    fn parameters() -> Parameters {
        Parameters {
            sampling: Sampling { seed: 7, ..Sampling::model_card_defaults() },
            max_tokens: 256,
            stop: Vec::new(),
        }
    }

    #[test]
    fn every_parameter_is_set_printed_and_saved() {
        let values = ["0.25", "12", "0.5", "0.125", "1.5", "32", "0.75", "0.375", "99", "17", "###"];
        let mut changed = parameters();
        for (row, value) in TABLE.iter().zip(values) {
            assert_ne!((row.show)(&changed), value);
            row.set(&mut changed, value).unwrap();
            assert!((row.show)(&changed).contains(value), "{}", row.name);
            assert_eq!(find(row.name).map(|found| found.name), Some(row.name));
        }
        let stored = serde_json::to_string(&Stored::from(&changed)).unwrap();
        let read: Stored = serde_json::from_str(&stored).unwrap();
        let read = read.parameters().unwrap();
        for row in &TABLE {
            assert_eq!((row.show)(&read), (row.show)(&changed), "{}", row.name);
        }
    }

    #[test]
    fn invalid_values_change_nothing() {
        for (name, value) in [
            ("temperature", "-1"),
            ("temp", "nan"),
            ("temperature", ""),
            ("top_k", "-1"),
            ("top_p", "0"),
            ("min_p", "2"),
            ("repeat_penalty", "0"),
            ("repeat_last_n", "99999999"),
            ("seed", "4294967295"),
            ("n", "0"),
            ("num_predict", "many"),
        ] {
            let mut same = parameters();
            assert!(find(name).unwrap().set(&mut same, value).is_err(), "{name} {value}");
            assert_eq!(format!("{same:?}"), format!("{:?}", parameters()));
        }
        assert!(find("num_ctx").is_none());
    }
}

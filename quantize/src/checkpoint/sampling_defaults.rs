//! Converts the sampling parameters in generation_config.json to the keys of llama.cpp's converter (gguf-py's
//! `metadata.py`). llama-cli and llama-server use them as defaults.

use crate::gguf::Value;
use serde_json::{Map, Value as Json};

/// Type of a value in the GGUF file.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Integer,
    Float,
}

/// Key in generation_config.json, key in a GGUF below `general.sampling.`, type; in the order of the converter.
const KEYS: [(&str, &str, Kind); 12] = [
    ("sequence", "sequence", Kind::Text),
    ("top_k", "top_k", Kind::Integer),
    ("top_p", "top_p", Kind::Float),
    ("min_p", "min_p", Kind::Float),
    ("xtc_probability", "xtc_probability", Kind::Float),
    ("xtc_threshold", "xtc_threshold", Kind::Float),
    ("temperature", "temp", Kind::Float),
    ("penalty_last_n", "penalty_last_n", Kind::Integer),
    ("penalty_repeat", "penalty_repeat", Kind::Float),
    ("mirostat", "mirostat", Kind::Integer),
    ("mirostat_tau", "mirostat_tau", Kind::Float),
    ("mirostat_eta", "mirostat_eta", Kind::Float),
];

/// Returns the pairs for `json`; a value of another type counts as absent.
pub(super) fn pairs(json: &Map<String, Json>) -> Vec<(String, Value)> {
    let value = |json: &Json, kind: Kind| match kind {
        Kind::Text => json.as_str().map(|text| Value::Str(text.to_owned())),
        Kind::Integer => {
            // the converter truncates 50.0 to 50
            let integer = json.as_i64().or_else(|| json.as_f64().filter(|x| x.fract() == 0.0).and_then(truncated));
            integer.and_then(|n| i32::try_from(n).ok()).map(Value::I32)
        }
        #[allow(clippy::cast_possible_truncation, reason = "GGUF stores these as f32")]
        Kind::Float => json.as_f64().map(|x| x as f32).filter(|x| x.is_finite()).map(Value::F32),
    };
    let pair = |(from, to, kind): &(&str, &str, Kind)| {
        Some((format!("general.sampling.{to}"), value(json.get(*from)?, *kind)?))
    };
    KEYS.iter().filter_map(pair).collect()
}

fn truncated(x: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "checked before")]
    (x.abs() < 1e9).then_some(x as i64)
}

#[cfg(test)]
mod tests {
    use super::pairs;
    use crate::gguf::Value;

    #[test]
    fn converts_sampling_parameters_with_the_converters_types() {
        let json = serde_json::json!({"temperature": 0.6, "top_p": 0.9, "top_k": 50, "do_sample": true, "min_p": "x"});
        let expected = [("top_k", Value::I32(50)), ("top_p", Value::F32(0.9)), ("temp", Value::F32(0.6))];
        let expected = expected.map(|(key, value)| (format!("general.sampling.{key}"), value));
        assert_eq!(pairs(json.as_object().unwrap()), expected);
    }
}

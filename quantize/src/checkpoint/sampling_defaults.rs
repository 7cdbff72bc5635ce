//! What generation_config.json recommends for sampling, under the keys of llama.cpp's converter (gguf-py's `metadata.py`);
//! llama-cli and llama-server take them for defaults.

use crate::gguf::Value;
use serde_json::{Map, Value as Json};

/// How a value is stored.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Float,
}

/// Key in generation_config.json, key in a GGUF below `general.sampling.`, type; in the order of the converter.
const KEYS: [(&str, &str, Kind); 12] = [
    ("sequence", "sequence", Kind::Text),
    ("top_k", "top_k", Kind::Whole),
    ("top_p", "top_p", Kind::Float),
    ("min_p", "min_p", Kind::Float),
    ("xtc_probability", "xtc_probability", Kind::Float),
    ("xtc_threshold", "xtc_threshold", Kind::Float),
    ("temperature", "temp", Kind::Float),
    ("penalty_last_n", "penalty_last_n", Kind::Whole),
    ("penalty_repeat", "penalty_repeat", Kind::Float),
    ("mirostat", "mirostat", Kind::Whole),
    ("mirostat_tau", "mirostat_tau", Kind::Float),
    ("mirostat_eta", "mirostat_eta", Kind::Float),
];

/// The pairs for what `json` says; a value of another type counts as absent.
pub(super) fn pairs(json: &Map<String, Json>) -> Vec<(String, Value)> {
    let value = |said: &Json, kind: Kind| match kind {
        Kind::Text => said.as_str().map(|text| Value::Str(text.to_owned())),
        Kind::Whole => {
            // the converter cuts 50.0 to 50
            let whole = said.as_i64().or_else(|| said.as_f64().filter(|x| x.fract() == 0.0).and_then(cut));
            whole.and_then(|n| i32::try_from(n).ok()).map(Value::I32)
        }
        #[allow(clippy::cast_possible_truncation, reason = "GGUF stores these as f32")]
        Kind::Float => said.as_f64().map(|x| x as f32).filter(|x| x.is_finite()).map(Value::F32),
    };
    let pair = |(from, to, kind): &(&str, &str, Kind)| {
        Some((format!("general.sampling.{to}"), value(json.get(*from)?, *kind)?))
    };
    KEYS.iter().filter_map(pair).collect()
}

fn cut(x: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "checked before")]
    (x.abs() < 1e9).then_some(x as i64)
}

#[cfg(test)]
mod tests {
    use super::pairs;
    use crate::gguf::Value;

    #[test]
    fn recommendations_become_pairs_of_the_converters_types() {
        let json = serde_json::json!({"temperature": 0.6, "top_p": 0.9, "top_k": 50, "do_sample": true, "min_p": "x"});
        let expected = [("top_k", Value::I32(50)), ("top_p", Value::F32(0.9)), ("temp", Value::F32(0.6))];
        let expected = expected.map(|(key, value)| (format!("general.sampling.{key}"), value));
        assert_eq!(pairs(json.as_object().unwrap()), expected);
    }
}

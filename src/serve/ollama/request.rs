//! Translates the bodies of ollama's `/api/chat` and `/api/generate` to those of OpenAI's API, whose parser then checks
//! them. Fields that would change the answer and have no counterpart are refused.

use crate::api::{Endpoint, Refusal};
use serde_json::{Map, Value, json};

/// Fields of a body that do not change the answer: the model is always loaded.
const IGNORED: [&str; 2] = ["model", "keep_alive"];
/// Options of the machine and of the context, which the flags of `serve` set.
const IGNORED_OPTIONS: [&str; 14] = [
    "num_ctx",
    "num_batch",
    "num_gpu",
    "num_thread",
    "num_keep",
    "main_gpu",
    "numa",
    "low_vram",
    "f16_kv",
    "use_mmap",
    "use_mlock",
    "vocab_only",
    "logits_all",
    "embedding_only",
];
/// Options of samplers that do not exist here, and the values at which they do nothing.
const NEUTRAL_OPTIONS: [(&str, f64); 3] = [("typical_p", 1.0), ("tfs_z", 1.0), ("mirostat", 0.0)];
/// Options with the same name and meaning in our API.
const SAME: [&str; 9] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
];

/// A translated body.
#[derive(Debug, PartialEq)]
pub(super) struct Translated {
    /// Fields of a body of OpenAI's API.
    pub(super) fields: Map<String, Value>,
    pub(super) endpoint: Endpoint,
    /// Whether the answer is streamed.
    pub(super) stream: bool,
    /// Whether there is nothing to answer: the client only wants the model to be loaded.
    pub(super) empty: bool,
}

/// Translates a body of `/api/chat`.
pub(super) fn chat(mut body: Map<String, Value>) -> Result<Translated, Refusal> {
    let messages = body.shift_remove("messages").unwrap_or_else(|| json!([]));
    let empty = messages.as_array().is_some_and(Vec::is_empty);
    let mut fields = Map::from_iter([("messages".to_owned(), cleaned(messages))]);
    let stream = common(&mut body, &mut fields)?;
    fields.extend(body.shift_remove("tools").map(|tools| ("tools".to_owned(), tools)));
    refuse_rest(&body, &[])?;
    Ok(Translated { fields, endpoint: Endpoint::Chat, stream, empty })
}

/// Translates a body of `/api/generate`. Without `raw`, the prompt is the message of a user.
pub(super) fn generate(mut body: Map<String, Value>) -> Result<Translated, Refusal> {
    let prompt = body.shift_remove("prompt").unwrap_or_else(|| "".into());
    let raw = body.shift_remove("raw").is_some_and(|raw| raw == true);
    let system = body.shift_remove("system").filter(|system| system.as_str().is_none_or(|text| !text.is_empty()));
    let empty = prompt.as_str().is_some_and(str::is_empty);
    let mut fields = Map::new();
    let endpoint = if raw {
        if system.is_some_and(|system| !system.is_null()) {
            return Err(Refusal::of("invalid_parameter", "system", "cannot be combined with \"raw\""));
        }
        fields.insert("prompt".to_owned(), prompt);
        Endpoint::Text
    } else {
        let system = system.filter(|system| !system.is_null()).map(|text| json!({"role": "system", "content": text}));
        let messages: Vec<Value> = system.into_iter().chain([json!({"role": "user", "content": prompt})]).collect();
        fields.insert("messages".to_owned(), messages.into());
        Endpoint::Chat
    };
    let stream = common(&mut body, &mut fields)?;
    refuse_rest(&body, &["images", "context", "suffix", "template"])?;
    Ok(Translated { fields, endpoint, stream, empty })
}

/// Translates the fields that both have; returns whether the answer is streamed, which is the default.
fn common(body: &mut Map<String, Value>, fields: &mut Map<String, Value>) -> Result<bool, Refusal> {
    IGNORED.iter().for_each(|name| drop(body.shift_remove(*name)));
    match body.shift_remove("format") {
        None | Some(Value::Null) => {}
        Some(Value::String(format)) if format.is_empty() => {}
        Some(Value::String(format)) if format == "json" => {
            fields.insert("response_format".to_owned(), json!({"type": "json_object"}));
        }
        Some(schema @ Value::Object(_)) => drop(fields.insert("json_schema".to_owned(), schema)),
        Some(_) => return Err(Refusal::of("invalid_parameter", "format", "must be \"json\" or a JSON schema")),
    }
    for name in ["think", "logprobs"] {
        if body.shift_remove(name).is_some_and(|value| !value.is_null() && value != false) {
            return Err(Refusal::of("unsupported_parameter", name, "is not supported"));
        }
    }
    match body.shift_remove("options") {
        None | Some(Value::Null) => {}
        Some(Value::Object(given)) => given.into_iter().try_for_each(|(name, value)| option(fields, name, value))?,
        Some(_) => return Err(Refusal::of("invalid_parameter", "options", "must be an object")),
    }
    match body.shift_remove("stream") {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(stream)) => Ok(stream),
        Some(_) => Err(Refusal::of("invalid_parameter", "stream", "must be true or false")),
    }
}

/// Adds an option to the fields.
fn option(fields: &mut Map<String, Value>, name: String, value: Value) -> Result<(), Refusal> {
    let is = |names: &[&str]| names.contains(&name.as_str());
    if value.is_null() || is(&IGNORED_OPTIONS) {
        return Ok(());
    }
    if let Some((_, neutral)) = NEUTRAL_OPTIONS.iter().find(|(known, _)| *known == name) {
        return match value.as_f64() == Some(*neutral) {
            true => Ok(()),
            false => Err(Refusal::of("unsupported_parameter", &name, "is not supported")),
        };
    }
    match name.as_str() {
        // -1 and -2: until the context is full, which is the default.
        "num_predict" if value.as_i64().is_some_and(|n| n < 0) => {}
        "num_predict" => drop(fields.insert("max_tokens".to_owned(), value)),
        "stop" if value.as_array().is_some_and(Vec::is_empty) => {}
        "mirostat_tau" | "mirostat_eta" | "penalize_newline" => {}
        "stop" => drop(fields.insert(name, value)),
        _ if is(&SAME) => drop(fields.insert(name, value)),
        _ => {
            let message = format!("there is no option \"{}\"", name.chars().take(40).collect::<String>());
            return Err(Refusal::new("unknown_parameter", &name, message));
        }
    }
    Ok(())
}

/// Refuses the fields that are left, unless one of `known` is empty.
fn refuse_rest(body: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    let is_empty = |value: &Value| {
        value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_str().is_some_and(str::is_empty)
    };
    match body.iter().find(|(name, value)| !(known.contains(&name.as_str()) && is_empty(value))) {
        None => Ok(()),
        Some((name, _)) if known.contains(&name.as_str()) => {
            Err(Refusal::of("unsupported_parameter", name, "is not supported"))
        }
        Some((name, _)) => {
            let name: String = name.chars().take(40).collect();
            Err(Refusal::new("unknown_parameter", &name, format!("there is no parameter \"{name}\"")))
        }
    }
}

/// Removes what clients add to messages and what does not change the prompt: lists of images and tool calls that are empty,
/// and the names in results of calls.
fn cleaned(mut messages: Value) -> Value {
    for message in messages.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        message.shift_remove("tool_name");
        message.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::{Translated, chat, generate};
    use crate::api::Endpoint;
    use serde_json::{Map, Value, json};

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn options_become_parameters() {
        let body = json!({"model": "m", "keep_alive": "5m", "think": false, "messages": [{"role": "user", "content": "a", "images": []}],
            "options": {"num_predict": 7, "temperature": 0, "num_ctx": 99, "stop": ["x"], "mirostat": 0, "repeat_last_n": 3}});
        let fields = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 7, "temperature": 0, "stop": ["x"], "repeat_last_n": 3});
        let expected = Translated { fields: object(fields), endpoint: Endpoint::Chat, stream: true, empty: false };
        assert_eq!(chat(object(body)).unwrap(), expected);
    }

    #[test]
    fn a_prompt_becomes_a_message_unless_it_is_raw() {
        let fields = |body: Value| generate(object(body)).unwrap().fields;
        let messages = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]);
        assert_eq!(fields(json!({"prompt": "p", "system": "s", "stream": false}))["messages"], messages);
        assert_eq!(fields(json!({"prompt": "p", "raw": true, "context": []}))["prompt"], "p");
        assert!(generate(object(json!({}))).unwrap().empty);
    }

    #[test]
    fn what_would_change_the_answer_is_refused() {
        let message = json!([{"role": "user", "content": "a"}]);
        for (extra, code) in [
            (json!({"think": true}), "unsupported_parameter"),
            (json!({"options": {"mirostat": 2}}), "unsupported_parameter"),
            (json!({"options": {"temprature": 1}}), "unknown_parameter"),
            (json!({"options": 1}), "invalid_parameter"),
            (json!({"stream": "no"}), "invalid_parameter"),
            (json!({"other": 1}), "unknown_parameter"),
        ] {
            let mut body = object(json!({"messages": message}));
            body.extend(object(extra.clone()));
            assert_eq!(chat(body).unwrap_err().code, code, "{extra}");
        }
        for extra in
            [json!({"images": ["x"]}), json!({"context": [1]}), json!({"suffix": "x"}), json!({"template": "x"})]
        {
            let mut body = object(json!({"prompt": "p"}));
            body.extend(object(extra.clone()));
            assert_eq!(generate(body).unwrap_err().code, "unsupported_parameter", "{extra}");
        }
    }
}

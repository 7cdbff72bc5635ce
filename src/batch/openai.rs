//! OpenAI batch lines, as they come in: `/v1/chat/completions` and `/v1/completions`. A line that cannot be answered
//! becomes a [`Refusal`], never an error of the run; a field that would change the answer and is not supported is refused
//! rather than ignored. What goes out is in `reply`.

use crate::prompt::{Message, conversation};
use serde_json::{Map, Value, json};

/// The largest `max_tokens`; beyond any window, and a number of this size is a mistake.
const MAX_TOKENS: u64 = 1_000_000;
/// As the API has it.
const MAX_STOPS: usize = 4;

/// A record that can be answered.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    /// The caller's name for it.
    pub(crate) custom_id: String,
    /// What to answer.
    pub(crate) ask: Ask,
    /// How.
    pub(crate) options: Options,
}

/// What the model is given.
#[derive(Debug, PartialEq)]
pub(crate) enum Ask {
    /// A conversation.
    Chat(Vec<Message>),
    /// A text to go on with.
    Text(String),
}

/// What the record says about its answer; the rest is up to the flags.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Tokens of the answer at most.
    pub(crate) max_tokens: Option<u32>,
    /// As everywhere.
    pub(crate) temperature: Option<f32>,
    /// As everywhere.
    pub(crate) top_p: Option<f32>,
    /// Not OpenAI's; as llama.cpp has it.
    pub(crate) top_k: Option<u32>,
    /// Not OpenAI's; as llama.cpp has it.
    pub(crate) min_p: Option<f32>,
    /// Not OpenAI's; as llama.cpp has it.
    pub(crate) repeat_penalty: Option<f32>,
    /// As everywhere.
    pub(crate) seed: Option<u32>,
    /// The answer ends before any of these.
    pub(crate) stop: Vec<String>,
}

/// Why a record is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The record's name as far as it could be read.
    pub(crate) custom_id: Option<String>,
    /// Stable, lower case.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
}

type Refused = (&'static str, String);

/// Reads one line.
pub(crate) fn parse(line: &[u8]) -> Result<Record, Refusal> {
    let refuse = |custom_id: Option<String>, (code, message): Refused| Refusal { custom_id, code, message };
    let value = read(line).map_err(|why| refuse(None, why))?;
    let custom_id = value.get("custom_id").and_then(Value::as_str).map(str::to_owned);
    record(value, custom_id.clone()).map_err(|why| refuse(custom_id, why))
}

fn read(line: &[u8]) -> Result<Map<String, Value>, Refused> {
    let text = std::str::from_utf8(line)
        .map_err(|err| ("invalid_utf8", format!("byte {} of the line is not UTF-8", err.valid_up_to() + 1)))?;
    if text.trim().is_empty() {
        return Err(("empty_line", "the line is empty".to_owned()));
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|err| ("bad_json", format!("the line is not JSON: {}", column_only(&err))))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(("invalid_record", "the line must be a JSON object".to_owned())),
    }
}

/// serde_json counts lines within the text, which is always line 1 here and would be taken for the file's.
fn column_only(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("{what} at column {}", err.column())
}

fn record(mut fields: Map<String, Value>, custom_id: Option<String>) -> Result<Record, Refused> {
    let custom_id = match custom_id {
        Some(id) if !id.is_empty() => id,
        _ => return Err(("invalid_custom_id", "\"custom_id\" must be a string that is not empty".to_owned())),
    };
    if fields.get("method").is_some_and(|method| method != "POST") {
        return Err(("invalid_method", "\"method\" must be \"POST\"".to_owned()));
    }
    let Some(Value::Object(mut body)) = fields.remove("body") else {
        return Err(("invalid_body", "\"body\" must be an object".to_owned()));
    };
    let ask = match fields.get("url").and_then(Value::as_str) {
        Some("/v1/chat/completions") => {
            let messages = body.remove("messages").ok_or(("missing_messages", "\"messages\" is missing".to_owned()))?;
            Ask::Chat(conversation(&messages).map_err(|why| ("invalid_messages", why))?)
        }
        Some("/v1/completions") => match body.remove("prompt") {
            Some(Value::String(text)) => Ask::Text(text),
            Some(_) => return Err(("invalid_prompt", "\"prompt\" must be a string".to_owned())),
            None => return Err(("missing_prompt", "\"prompt\" is missing".to_owned())),
        },
        _ => {
            let message = "\"url\" must be \"/v1/chat/completions\" or \"/v1/completions\"";
            return Err(("invalid_url", message.to_owned()));
        }
    };
    Ok(Record { custom_id, ask, options: options(body)? })
}

/// Fields that say nothing about the answer.
const IGNORED: &[&str] =
    &["model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"];

fn options(body: Map<String, Value>) -> Result<Options, Refused> {
    let mut options = Options::default();
    for (name, value) in body {
        if value.is_null() || IGNORED.contains(&name.as_str()) {
            continue;
        }
        match name.as_str() {
            "max_tokens" | "max_completion_tokens" => {
                let given = narrow(whole(&name, &value, 1, MAX_TOKENS)?);
                if options.max_tokens.is_some_and(|other| other != given) {
                    return Err(invalid("max_tokens and max_completion_tokens", "differ"));
                }
                options.max_tokens = Some(given);
            }
            "temperature" => options.temperature = Some(number(&name, &value, 0.0, 100.0)?),
            "top_p" => options.top_p = Some(number(&name, &value, f32::MIN_POSITIVE, 1.0)?),
            "min_p" => options.min_p = Some(number(&name, &value, 0.0, 1.0)?),
            "repeat_penalty" => options.repeat_penalty = Some(number(&name, &value, f32::MIN_POSITIVE, 100.0)?),
            "top_k" => options.top_k = Some(narrow(whole(&name, &value, 0, u64::from(u32::MAX))?)),
            "seed" => options.seed = Some(seed(&value)?),
            "stop" => options.stop = stops(&value)?,
            _ if is_neutral(&name, &value) => {}
            _ => return Err(("unsupported_parameter", format!("\"{}\" is not supported", brief(&name)))),
        }
    }
    Ok(options)
}

/// Parameters of the API that are not supported, at the value that changes nothing.
fn is_neutral(name: &str, value: &Value) -> bool {
    let neutral = match name {
        "n" | "best_of" => json!(1),
        "stream" | "logprobs" | "echo" => json!(false),
        "presence_penalty" | "frequency_penalty" => return value.as_f64() == Some(0.0),
        "response_format" => json!({"type": "text"}),
        "tools" | "functions" => json!([]),
        "logit_bias" => json!({}),
        _ => return false,
    };
    *value == neutral
}

fn invalid(name: &str, why: impl std::fmt::Display) -> Refused {
    ("invalid_parameter", format!("{name} {why}"))
}

fn whole(name: &str, value: &Value, least: u64, most: u64) -> Result<u64, Refused> {
    let given = value.as_u64().filter(|n| (least..=most).contains(n));
    given.ok_or_else(|| invalid(name, format!("must be a whole number from {least} to {most}")))
}

fn narrow(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn number(name: &str, value: &Value, least: f32, most: f32) -> Result<f32, Refused> {
    let given = value.as_f64().map(|n| n as f32).filter(|n| (least..=most).contains(n));
    given.ok_or_else(|| invalid(name, format!("must be a number from {least} to {most}")))
}

/// OpenAI's seeds have 64 bits, llama.cpp's 32, of which it keeps the last for itself.
fn seed(value: &Value) -> Result<u32, Refused> {
    let given = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    let folded = given.map(|n| n.rem_euclid(i128::from(u32::MAX)));
    folded.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| invalid("seed", "must be a whole number of 64 bits"))
}

fn stops(value: &Value) -> Result<Vec<String>, Refused> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let texts: Option<Vec<String>> =
        list.iter().map(|stop| stop.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect();
    texts
        .filter(|texts| texts.len() <= MAX_STOPS)
        .ok_or_else(|| invalid("stop", format!("must be a string or up to {MAX_STOPS} strings, none empty")))
}

/// A name from input inside a message.
fn brief(name: &str) -> String {
    crate::error::one_line(&name.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{Ask, Options, parse};
    use crate::prompt::{Message, Role};
    use serde_json::{Value, json};

    fn chat(extra: &Value) -> Vec<u8> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
        if let (Some(body), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
            body.extend(extra.clone());
        }
        json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})
            .to_string()
            .into_bytes()
    }

    fn code(line: &[u8]) -> &'static str {
        parse(line).map_or_else(|refusal| refusal.code, |_| "ok")
    }

    #[test]
    fn a_record_is_read() {
        let line = chat(&json!({
            "max_completion_tokens": 7, "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": -1,
            "stop": "END", "n": 1, "logprobs": null, "user": "x", "tools": [], "frequency_penalty": 0,
        }));
        let record = parse(&line).unwrap();
        assert_eq!(record.custom_id, "a");
        assert_eq!(record.ask, Ask::Chat(vec![Message::new(Role::User, "Hello")]));
        let expected = Options {
            max_tokens: Some(7),
            temperature: Some(0.5),
            top_p: Some(0.9),
            top_k: Some(3),
            seed: Some(u32::MAX - 1),
            stop: vec!["END".into()],
            ..Options::default()
        };
        assert_eq!(record.options, expected);
        let text = br#"{"custom_id":"b","url":"/v1/completions","body":{"prompt":"Once"}}"#;
        assert_eq!(parse(text).unwrap().ask, Ask::Text("Once".into()));
    }

    #[test]
    fn every_bad_line_has_its_code() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "empty_line"),
            (b" \r", "empty_line"),
            (b"{\"custom_id\":\"a\"", "bad_json"),
            (b"\xff", "invalid_utf8"),
            (b"[]", "invalid_record"),
            (b"{}", "invalid_custom_id"),
            (br#"{"custom_id":7}"#, "invalid_custom_id"),
            (br#"{"custom_id":"a"}"#, "invalid_body"),
            (br#"{"custom_id":"a","method":"GET","body":{}}"#, "invalid_method"),
            (br#"{"custom_id":"a","url":"/v1/embeddings","body":{}}"#, "invalid_url"),
            (br#"{"custom_id":"a","url":"/v1/chat/completions","body":{}}"#, "missing_messages"),
            (br#"{"custom_id":"a","url":"/v1/chat/completions","body":{"messages":[]}}"#, "invalid_messages"),
            (br#"{"custom_id":"a","url":"/v1/completions","body":{}}"#, "missing_prompt"),
            (br#"{"custom_id":"a","url":"/v1/completions","body":{"prompt":[1]}}"#, "invalid_prompt"),
        ];
        for (line, expected) in cases {
            assert_eq!(code(line), *expected, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(code(&[b"[".repeat(10_000), b"]".repeat(10_000)].concat()), "bad_json", "nesting is bounded");
        assert_eq!(
            code(&String::from_utf8(chat(&json!({}))).unwrap().replace("Hello", "\\ud800").into_bytes()),
            "bad_json"
        );
        let nan = String::from_utf8(chat(&json!({"temperature": 1}))).unwrap();
        assert_eq!(code(nan.replace("\"temperature\":1", "\"temperature\":NaN").as_bytes()), "bad_json");
    }

    #[test]
    fn absurd_and_unsupported_parameters_are_refused() {
        for extra in [
            json!({"max_tokens": 0}),
            json!({"max_tokens": -1}),
            json!({"max_tokens": 1_000_000_000_000_000_000_u64}),
            json!({"max_tokens": 1e18}),
            json!({"max_tokens": 1.5}),
            json!({"max_tokens": 1, "max_completion_tokens": 2}),
            json!({"temperature": "hot"}),
            json!({"temperature": -1}),
            json!({"temperature": 1e300}),
            json!({"top_p": 0}),
            json!({"top_p": 1.5}),
            json!({"top_k": -1}),
            json!({"seed": 1e30}),
            json!({"seed": "x"}),
            json!({"stop": ["a", "b", "c", "d", "e"]}),
            json!({"stop": [""]}),
            json!({"stop": 7}),
        ] {
            assert_eq!(code(&chat(&extra)), "invalid_parameter", "{extra}");
        }
        for extra in [
            json!({"n": 2}),
            json!({"stream": true}),
            json!({"logprobs": true}),
            json!({"tools": [{}]}),
            json!({"response_format": {"type": "json_object"}}),
            json!({"presence_penalty": 0.5}),
            json!({"no_such_thing": 1}),
        ] {
            assert_eq!(code(&chat(&extra)), "unsupported_parameter", "{extra}");
        }
        let wrong_role = chat(&json!({"messages": [{"role": "tool", "content": ""}]}));
        let refusal = parse(&wrong_role).unwrap_err();
        assert_eq!((refusal.code, refusal.custom_id.as_deref()), ("invalid_messages", Some("a")));
        assert!(refusal.message.contains("role 'tool'"));
    }
}

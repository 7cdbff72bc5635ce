//! The parameters of a request body. Unknown fields are refused, and the error names them: if a misspelt `max_token`
//! were ignored, a whole batch could be wasted.

use super::options::{RequestOptions, Seed};
use super::refusal::Refusal;
use super::structured;
use crate::engine::{Sampling, Token};
use serde_json::{Map, Value, json};

/// Maximum of `max_tokens`: larger than any context, so a larger number is a mistake.
const MAX_TOKENS: u64 = 1_000_000;
/// Limits of OpenAI's API.
const MAX_STOPS: usize = 4;
const MAX_N: u64 = 128;
const MAX_TOP_CHAT: u64 = 20;
const MAX_TOP_TEXT: u64 = 5;
const MAX_BIAS: f32 = 100.0;
/// More entries than any client sends; each costs time for every token.
const MAX_BIASES: usize = 1024;

/// Fields that are ignored because they do not change the answer.
const IGNORED: &[&str] = &[
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "priority",
    "request_id",
    "stream_options",
    "parallel_tool_calls",
];

/// Returns the values at which an unsupported field has no effect; all other values are refused.
fn neutral(name: &str) -> Option<&'static [Value]> {
    use std::sync::LazyLock;
    static NEUTRAL: LazyLock<Vec<(&str, Vec<Value>)>> = LazyLock::new(|| {
        vec![
            ("best_of", vec![json!(1)]),
            ("stream", vec![json!(false)]),
            ("echo", vec![json!(false)]),
            ("suffix", vec![json!("")]),
            ("modalities", vec![json!(["text"])]),
            // Those of a chat are read before (`tools/`).
            ("tools", vec![json!([])]),
            ("tool_choice", vec![json!("none"), json!("auto")]),
            ("functions", vec![json!([])]),
            ("function_call", vec![json!("none"), json!("auto")]),
            ("audio", vec![]),
            ("prediction", vec![]),
            ("reasoning_effort", vec![]),
            ("verbosity", vec![]),
            ("web_search_options", vec![]),
            ("use_beam_search", vec![json!(false)]),
            ("length_penalty", vec![json!(1.0), json!(1)]),
            ("min_tokens", vec![json!(0)]),
            ("ignore_eos", vec![json!(false)]),
            ("stop_token_ids", vec![json!([])]),
            ("bad_words", vec![json!([])]),
            ("prompt_logprobs", vec![]),
            ("truncate_prompt_tokens", vec![]),
            ("include_stop_str_in_output", vec![json!(false)]),
            ("skip_special_tokens", vec![json!(true)]),
            ("spaces_between_special_tokens", vec![json!(true)]),
            ("add_generation_prompt", vec![json!(true)]),
            ("continue_final_message", vec![json!(false)]),
            // Has no effect on a chat: the template writes the special tokens, or the vocabulary adds BOS.
            ("add_special_tokens", vec![json!(false), json!(true)]),
            ("chat_template", vec![]),
            ("chat_template_kwargs", vec![json!({})]),
            ("guided_json", vec![]),
            ("guided_regex", vec![]),
            ("guided_choice", vec![]),
            ("guided_grammar", vec![]),
            ("structured_outputs", vec![]),
        ]
    });
    NEUTRAL.iter().find(|(known, _)| *known == name).map(|(_, values)| values.as_slice())
}

/// Parses the remaining fields of a body. `chat`: chat completions, which have a different `logprobs` field.
pub(super) fn read(body: Map<String, Value>, chat: bool) -> Result<RequestOptions, Refusal> {
    let mut options = RequestOptions::default();
    let mut top = None;
    let mut wanted = false;
    for (name, value) in body {
        if value.is_null() || IGNORED.contains(&name.as_str()) {
            continue;
        }
        match name.as_str() {
            "max_tokens" | "max_completion_tokens" => {
                let given = saturating_u32(whole(&name, &value, 1, MAX_TOKENS)?);
                if options.max_tokens.is_some_and(|other| other != given) {
                    return Err(invalid("max_tokens and max_completion_tokens", "differ"));
                }
                options.max_tokens = Some(given);
            }
            "n" => options.n = Some(saturating_u32(whole(&name, &value, 1, MAX_N)?)),
            "temperature" => options.temperature = Some(number(&name, &value, 0.0, 100.0)?),
            "top_p" => options.top_p = Some(number(&name, &value, f32::MIN_POSITIVE, 1.0)?),
            "min_p" => options.min_p = Some(number(&name, &value, 0.0, 1.0)?),
            "repeat_penalty" => options.repeat_penalty = Some(penalty(&name, &value)?),
            // In llama.cpp, -1 means the whole context.
            "repeat_last_n" if value == -1 => options.repeat_last_n = Some(Sampling::REPEAT_LAST_N_MAX),
            "repeat_last_n" => {
                let most = u64::from(Sampling::REPEAT_LAST_N_MAX);
                options.repeat_last_n = Some(saturating_u32(whole(&name, &value, 0, most)?));
            }
            "repetition_penalty" => options.repetition_penalty = Some(penalty(&name, &value)?),
            "presence_penalty" => options.presence_penalty = Some(number(&name, &value, -2.0, 2.0)?),
            "frequency_penalty" => options.frequency_penalty = Some(number(&name, &value, -2.0, 2.0)?),
            // In vLLM, -1 means all tokens.
            "top_k" if value == -1 => options.top_k = Some(0),
            "top_k" => options.top_k = Some(saturating_u32(whole(&name, &value, 0, u64::from(u32::MAX))?)),
            "seed" => options.seed = seed(&value)?,
            "response_format" | "grammar" | "json_schema" => {
                if let Some(format) = structured::format(&name, &value)? {
                    if options.grammar.is_some() {
                        return Err(invalid(&name, "and another grammar or format were given: give one of them"));
                    }
                    options.grammar = Some(format.compile(&name)?);
                }
            }
            "logit_bias" => options.logit_bias = logit_bias(&value)?,
            "stop" => options.stop = stops(&value)?,
            "logprobs" if chat => {
                wanted = value.as_bool().ok_or_else(|| invalid(&name, "must be true or false"))?;
            }
            "logprobs" => {
                (wanted, top) = (true, Some(whole(&name, &value, 0, MAX_TOP_TEXT)?));
            }
            "add_special_tokens" if !chat => {
                let given = value.as_bool().ok_or_else(|| invalid(&name, "must be true or false"))?;
                options.add_bos = Some(given);
            }
            "top_logprobs" if chat => top = Some(whole(&name, &value, 0, MAX_TOP_CHAT)?),
            _ => match neutral(&name) {
                Some(values) if values.contains(&value) => {}
                Some(_) => return Err(Refusal::of("unsupported_parameter", &name, "is not supported")),
                None => {
                    let name = brief(&name);
                    let message = format!("there is no parameter \"{name}\"");
                    return Err(Refusal::new("unknown_parameter", &name, message));
                }
            },
        }
    }
    if options.repeat_penalty.is_some() && options.repetition_penalty.is_some() {
        return Err(invalid("repeat_penalty and repetition_penalty", "cannot be given together: give one of them"));
    }
    if top.is_some_and(|n| n > 0) && !wanted {
        return Err(invalid("top_logprobs", "needs \"logprobs\": true"));
    }
    options.logprobs = wanted.then(|| u8::try_from(top.unwrap_or(0)).unwrap_or(u8::MAX));
    Ok(options)
}

fn invalid(name: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::new("invalid_parameter", name, format!("{name} {why}"))
}

fn whole(name: &str, value: &Value, least: u64, most: u64) -> Result<u64, Refusal> {
    let given = value.as_u64().filter(|n| (least..=most).contains(n));
    given.ok_or_else(|| invalid(name, format!("must be a whole number from {least} to {most}")))
}

fn saturating_u32(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn number(name: &str, value: &Value, least: f32, most: f32) -> Result<f32, Refusal> {
    let given = value.as_f64().map(|n| n as f32).filter(|n| (least..=most).contains(n));
    given.ok_or_else(|| invalid(name, format!("must be a number from {least} to {most}")))
}

/// Parses a repetition penalty.
fn penalty(name: &str, value: &Value) -> Result<f32, Refusal> {
    number(name, value, *Sampling::REPEAT_PENALTY.start(), *Sampling::REPEAT_PENALTY.end())
}

/// Parses a seed. OpenAI's seeds have 64 bits; llama.cpp's have 32 bits, and the largest value is not a seed.
fn seed(value: &Value) -> Result<Seed, Refusal> {
    let given = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    let folded = given.map(|n| n.rem_euclid(i128::from(u32::MAX)));
    let seed = folded.and_then(|n| u32::try_from(n).ok()).map(Seed::Given);
    seed.ok_or_else(|| invalid("seed", "must be a whole number of 64 bits"))
}

/// Parses an object of token ids (as strings) and the values to add to their logits.
fn logit_bias(value: &Value) -> Result<Vec<(Token, f32)>, Refusal> {
    let wrong =
        || invalid("logit_bias", "must be an object: token ids as strings, each with a number from -100 to 100");
    let entries = value.as_object().ok_or_else(wrong)?;
    if entries.len() > MAX_BIASES {
        return Err(invalid("logit_bias", format!("has more than {MAX_BIASES} tokens")));
    }
    let entry = |(id, bias): (&String, &Value)| {
        let bias = bias.as_f64().map(|bias| bias as f32).filter(|bias| bias.abs() <= MAX_BIAS)?;
        Some((Token::new(id.parse().ok()?), bias))
    };
    entries.iter().map(entry).collect::<Option<Vec<_>>>().ok_or_else(wrong)
}

fn stops(value: &Value) -> Result<Vec<String>, Refusal> {
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

/// Shortens and sanitizes an untrusted name for a message.
fn brief(name: &str) -> String {
    crate::sanitize::one_line(&name.chars().take(40).collect::<String>())
}

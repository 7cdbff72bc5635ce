//! MT-Bench: reads FastChat's `question.jsonl`; writes its answer files. Temperatures, limits, seeds and the trimming
//! of answers are those of FastChat's `gen_model_answer`.

use super::fields::parse_object;
use crate::api::{PromptInput, RequestOptions, Seed};
use crate::batch::digest::first_half;
use crate::batch::record::{AnsweredRecord, CodeAndMessage, Record, RecordError, SortKey};
use crate::prompt::{Message, Role};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Maximum tokens to generate.
pub(in crate::batch) const MAX_TOKENS: u32 = 1024;
/// Maximum turns of a question.
const MAX_TURNS: usize = 64;
/// `gen_model_answer` passes no top_k to `generate`, so it is the default of Transformers' GenerationConfig.
const TOP_K: u32 = 50;
/// Temperature of categories that are not in the table.
const TEMPERATURE: f32 = 0.7;
const TEMPERATURES: [(&str, f32); 9] = [
    ("writing", 0.7),
    ("roleplay", 0.7),
    ("extraction", 0.0),
    ("math", 0.0),
    ("coding", 0.0),
    ("reasoning", 0.0),
    ("stem", 0.1),
    ("humanities", 0.1),
    ("arena-hard-200", 0.0),
];
/// The alphabet of Python's shortuuid: no characters that look similar.
const ALPHABET: &[u8; 57] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Length of a 128-bit number in this alphabet.
const DIGITS: usize = 22;

/// Parses one question.
pub(in crate::batch) fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
    let mut given = parse_object(bytes).map_err(|(code, message)| RecordError { id: None, code, message })?;
    let id = given.remove("question_id").unwrap_or_default();
    question(&given, &id).map_err(|(code, message)| RecordError { id: Some(id), code, message })
}

fn question(given: &Map<String, Value>, id: &Value) -> Result<Record, CodeAndMessage> {
    let name = match id {
        Value::Number(number) if number.is_i64() => number.to_string(),
        Value::String(name) if !name.is_empty() => name.clone(),
        _ => return Err(("invalid_question_id", "\"question_id\" must be a whole number or a string".to_owned())),
    };
    let invalid = |what: &str| ("invalid_turns", what.to_owned());
    let Some(Value::Array(turns)) = given.get("turns") else {
        return Err(invalid("\"turns\" must be an array of strings"));
    };
    let turns: Option<Vec<String>> = turns.iter().map(|turn| turn.as_str().map(str::to_owned)).collect();
    let mut turns = turns.ok_or_else(|| invalid("\"turns\" must be an array of strings"))?;
    if turns.is_empty() || turns.len() > MAX_TURNS {
        return Err(invalid("\"turns\" must have from 1 to 64 strings"));
    }
    let first = turns.remove(0);
    Ok(Record {
        id: Some(name),
        model: None,
        prompts: vec![PromptInput::Chat(vec![Message::new(Role::User, first)])],
        turns,
        options: RequestOptions {
            temperature: Some(temperature(given)?),
            top_k: Some(TOP_K),
            seed: Seed::Shared,
            ..RequestOptions::default()
        },
        fields: Map::from_iter([("question_id".to_owned(), id.clone())]),
    })
}

/// Returns the temperature that the question requires; without one, the temperature of its category.
fn temperature(given: &Map<String, Value>) -> Result<f32, CodeAndMessage> {
    if let Some(value) = given.get("required_temperature").filter(|value| !value.is_null()) {
        let value = value.as_f64().map(|number| number as f32).filter(|number| (0.0..=100.0).contains(number));
        let why = || ("invalid_parameter", "required_temperature must be a number from 0 to 100".to_owned());
        return value.ok_or_else(why);
    }
    let category = given.get("category").and_then(Value::as_str).unwrap_or_default();
    let known = TEMPERATURES.iter().find(|(name, _)| *name == category);
    Ok(known.map_or(TEMPERATURE, |(_, temperature)| *temperature))
}

/// Returns the output record.
pub(in crate::batch) fn output_record(answered: &AnsweredRecord<'_>) -> Value {
    let choices: Vec<Value> = answered
        .choices
        .iter()
        .enumerate()
        .map(|(index, turns)| {
            let turns: Vec<&str> = turns.iter().map(|answer| answer.text.trim()).collect();
            json!({"index": index, "turns": turns})
        })
        .collect();
    json!({
        "question_id": answered.record.fields.get("question_id"),
        "answer_id": short_uuid(answered.name),
        "model_id": answered.model,
        "choices": choices,
        "tstamp": answered.stamp,
    })
}

/// Returns the sort key of an output record: FastChat sorts answers by question.
pub(in crate::batch) fn sort_key(record: &[u8]) -> SortKey {
    let record: Value = serde_json::from_slice(record).unwrap_or_default();
    match &record["question_id"] {
        Value::String(name) => SortKey::Name(name.clone()),
        number => SortKey::Number(number.as_i64().unwrap_or(i64::MAX)),
    }
}

/// Hashes `name` to 128 bits and formats them like shortuuid.
fn short_uuid(name: &str) -> String {
    let mut rest = u128::from_be_bytes(first_half(Sha256::new().chain_update(name)));
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % ALPHABET.len() as u128) as usize];
        rest /= ALPHABET.len() as u128;
    }
    digits.map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{Seed, SortKey, parse, short_uuid, sort_key};

    #[test]
    fn parses_a_question_with_the_temperature_of_its_category() {
        let read = |category: &str| {
            let line = format!(r#"{{"question_id":81,"category":"{category}","turns":["a","b"],"reference":[]}}"#);
            parse(line.as_bytes()).unwrap()
        };
        for (category, temperature) in [("writing", 0.7), ("math", 0.0), ("stem", 0.1), ("other", 0.7), ("", 0.7)] {
            assert_eq!(read(category).options.temperature, Some(temperature), "{category}");
        }
        let record = read("math");
        assert_eq!(
            (record.id.as_deref(), record.turns, record.options.seed),
            (Some("81"), vec!["b".into()], Seed::Shared)
        );
        for (line, code) in [
            (&br#"{"turns":["a"]}"#[..], "invalid_question_id"),
            (br#"{"question_id":1.5,"turns":["a"]}"#, "invalid_question_id"),
            (br#"{"question_id":1,"turns":[]}"#, "invalid_turns"),
            (br#"{"question_id":1,"turns":"a"}"#, "invalid_turns"),
            (br#"{"question_id":1,"turns":["a",1]}"#, "invalid_turns"),
            (br#"{"question_id":1,"turns":["a"],"required_temperature":"x"}"#, "invalid_parameter"),
            (b"[", "bad_json"),
        ] {
            assert_eq!(parse(line).unwrap_err().code, code);
        }
        // Transformers' default, which gen_model_answer does not change.
        assert_eq!(read("writing").options.top_k, Some(50));
    }

    #[test]
    fn answer_ids_and_order_are_those_of_fastchat() {
        assert_eq!(short_uuid("a").len(), 22);
        assert_ne!(short_uuid("a"), short_uuid("b"));
        assert!(sort_key(br#"{"question_id":9}"#) < sort_key(br#"{"question_id":81}"#));
        assert!(sort_key(br#"{"question_id":81}"#) < SortKey::Name(String::new()));
    }
}

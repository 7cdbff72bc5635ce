//! AlpacaEval: reads instruction sets; writes the model outputs that `alpaca_eval --model_outputs` reads.

use super::fields::parse_object;
use crate::api::{PromptInput, RequestOptions};
use crate::batch::record::{AnsweredRecord, CodeAndMessage, Record, RecordError};
use crate::prompt::{Message, Role};
use serde_json::{Map, Value, json};

/// Input fields copied to the output; the judge uses them to find the reference answer.
const COPIED: [&str; 3] = ["dataset", "datasplit", "input"];

/// Parses one instruction. The reference `output` and `generator` of a set are ignored.
pub(in crate::batch) fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
    let error = |id: Option<Value>, (code, message): CodeAndMessage| RecordError { id, code, message };
    let mut given = parse_object(bytes).map_err(|why| error(None, why))?;
    let instruction = given.remove("instruction");
    let invalid = |message: &str| error(instruction.clone(), ("invalid_instruction", message.to_owned()));
    let Some(Value::String(text)) = &instruction else {
        return Err(invalid("\"instruction\" must be a string"));
    };
    if text.is_empty() {
        return Err(invalid("\"instruction\" is empty"));
    }
    // AlpacaEval's published set was built this way: instruction, blank line, input.
    let prompt = match given.get("input") {
        None | Some(Value::Null) => text.clone(),
        Some(Value::String(input)) if input.is_empty() => text.clone(),
        Some(Value::String(input)) => format!("{text}\n\n{input}"),
        Some(_) => return Err(invalid("\"input\" must be a string")),
    };
    let mut fields = Map::from_iter([("instruction".to_owned(), json!(text))]);
    for name in COPIED {
        fields.extend(given.remove(name).map(|value| (name.to_owned(), value)));
    }
    Ok(Record {
        id: None,
        model: None,
        prompts: vec![PromptInput::Chat(vec![Message::new(Role::User, prompt)])],
        turns: Vec::new(),
        options: RequestOptions { n: Some(1), ..RequestOptions::default() },
        fields,
    })
}

/// Returns the output record.
pub(in crate::batch) fn output_record(answered: &AnsweredRecord<'_>) -> Value {
    let text = answered.choices.iter().flatten().next().map(|answer| answer.text.as_str());
    let mut fields = Map::new();
    let mut given = answered.record.fields.clone();
    fields.extend(given.remove("instruction").map(|text| ("instruction".to_owned(), text)));
    fields.insert("output".to_owned(), text.into());
    fields.insert("generator".to_owned(), answered.model.into());
    fields.extend(given);
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::api::PromptInput;

    #[test]
    fn parses_an_instruction_with_its_input() {
        let record =
            parse(br#"{"dataset":"koala","instruction":"Do","input":"it","output":"x","generator":"y"}"#).unwrap();
        let PromptInput::Chat(messages) = &record.prompts[0] else { unreachable!() };
        assert_eq!(messages[0].content, "Do\n\nit");
        assert_eq!(
            serde_json::to_string(&record.fields).unwrap(),
            r#"{"instruction":"Do","dataset":"koala","input":"it"}"#
        );
        for (bytes, code) in [
            (&br#"{"instruction":7}"#[..], "invalid_instruction"),
            (br#"{"instruction":""}"#, "invalid_instruction"),
            (br#"{"instruction":"a","input":7}"#, "invalid_instruction"),
            (b"{}", "invalid_instruction"),
            (b"7", "invalid_record"),
            (b"{", "bad_json"),
            (b"", "empty_line"),
        ] {
            assert_eq!(parse(bytes).unwrap_err().code, code);
        }
    }
}

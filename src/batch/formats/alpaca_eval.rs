//! AlpacaEval: its instruction sets in, the model outputs that `alpaca_eval --model_outputs` reads out.

use super::fields::parse_object;
use crate::batch::record::{AnsweredRecord, CodeAndMessage, PromptInput, Record, RecordError, RequestOptions};
use crate::prompt::{Message, Role};
use serde_json::{Map, Value, json};

/// Fields of an instruction that its output repeats, for the judge finds the reference by them.
const REPEATED: [&str; 3] = ["dataset", "datasplit", "input"];

/// Reads one instruction. The reference `output` and `generator` of a set are not looked at.
pub(in crate::batch) fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
    let refuse = |id: Option<Value>, (code, message): CodeAndMessage| RecordError { id, code, message };
    let mut given = parse_object(bytes).map_err(|why| refuse(None, why))?;
    let instruction = given.remove("instruction");
    let refused = |message: &str| refuse(instruction.clone(), ("invalid_instruction", message.to_owned()));
    let Some(Value::String(text)) = &instruction else {
        return Err(refused("\"instruction\" must be a string"));
    };
    if text.is_empty() {
        return Err(refused("\"instruction\" is empty"));
    }
    // As AlpacaEval's own set was made of the one with inputs.
    let prompt = match given.get("input") {
        None | Some(Value::Null) => text.clone(),
        Some(Value::String(input)) if input.is_empty() => text.clone(),
        Some(Value::String(input)) => format!("{text}\n\n{input}"),
        Some(_) => return Err(refused("\"input\" must be a string")),
    };
    let mut fields = Map::from_iter([("instruction".to_owned(), json!(text))]);
    for name in REPEATED {
        fields.extend(given.remove(name).map(|value| (name.to_owned(), value)));
    }
    Ok(Record {
        id: None,
        model: None,
        asks: vec![PromptInput::Chat(vec![Message::new(Role::User, prompt)])],
        turns: Vec::new(),
        options: RequestOptions { n: Some(1), ..RequestOptions::default() },
        fields,
    })
}

/// The output record.
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
    use crate::batch::record::PromptInput;

    #[test]
    fn an_instruction_is_read_with_its_input() {
        let record =
            parse(br#"{"dataset":"koala","instruction":"Do","input":"it","output":"x","generator":"y"}"#).unwrap();
        let PromptInput::Chat(messages) = &record.asks[0] else { unreachable!() };
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

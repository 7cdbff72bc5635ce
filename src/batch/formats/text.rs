//! Plain text: every line is a prompt. The output is JSON lines, because answers can contain newlines; `jq -r .output`
//! extracts the answers.

use super::fields::non_empty_text;
use crate::api::{PromptInput, RequestOptions};
use crate::batch::record::{AnsweredRecord, Record, RecordError};
use crate::prompt::{Message, Role};
use serde_json::{Map, Value, json};

/// Parses one prompt.
pub(in crate::batch) fn parse(bytes: &[u8]) -> Result<Record, RecordError> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let prompt = non_empty_text(bytes).map_err(|(code, message)| RecordError { id: None, code, message })?;
    Ok(Record {
        id: None,
        model: None,
        prompts: vec![PromptInput::Chat(vec![Message::new(Role::User, prompt)])],
        turns: Vec::new(),
        options: RequestOptions::default(),
        fields: Map::from_iter([("prompt".to_owned(), prompt.into())]),
    })
}

/// Returns the output record; with several completions, `output` is a list.
pub(in crate::batch) fn output_record(answered: &AnsweredRecord<'_>) -> Value {
    let texts: Vec<&str> = answered.choices.iter().flatten().map(|answer| answer.text.as_str()).collect();
    let output = if let [one] = texts.as_slice() { json!(one) } else { json!(texts) };
    json!({"prompt": answered.record.fields.get("prompt"), "output": output, "error": null})
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_line_is_a_prompt() {
        assert_eq!(parse(b" Hello \r").unwrap().fields["prompt"], " Hello ");
        for (line, code) in
            [(&b""[..], "empty_line"), (b" \t", "empty_line"), (b"\r", "empty_line"), (b"a\xff", "invalid_utf8")]
        {
            assert_eq!(parse(line).unwrap_err().code, code);
        }
    }
}

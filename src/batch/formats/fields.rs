//! Parses the bytes of one record as text, or as the fields of a JSON object.

use crate::batch::record::CodeAndMessage;
use serde_json::{Map, Value};

/// Parses a record that must be a JSON object, and returns its fields.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, CodeAndMessage> {
    let text = non_empty_text(bytes)?;
    let value: Value = serde_json::from_str(text)
        .map_err(|err| ("bad_json", format!("the record is not JSON: {}", column_only(&err))))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(("invalid_record", "the record must be a JSON object".to_owned())),
    }
}

/// Returns a record as text; it is an error if the record is not UTF-8 or has only white space.
pub(super) fn non_empty_text(bytes: &[u8]) -> Result<&str, CodeAndMessage> {
    let text = std::str::from_utf8(bytes)
        .map_err(|err| ("invalid_utf8", format!("byte {} of the record is not UTF-8", err.valid_up_to() + 1)))?;
    if text.trim().is_empty() {
        return Err(("empty_line", "the line is empty".to_owned()));
    }
    Ok(text)
}

/// Formats a JSON error without its line number, because serde_json counts lines from the start of the record, not of
/// the file.
fn column_only(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    format!("{message} at column {}", err.column())
}

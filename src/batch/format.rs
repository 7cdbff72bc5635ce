//! The formats, and what tells them apart: how records stand in the input, how results stand in the output. What is in a
//! record is in the format's own file.

use super::input::Shape;
use super::record::{Answered, Record, Refusal, Refused};
use super::{alpaca, mt_bench, openai, text};
use crate::error::{Code, Failure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::Path;

/// How input and output are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// OpenAI batch lines
    Openai,
    /// Instruction sets of AlpacaEval (a JSON array or JSON lines); a JSON array for its judge out
    AlpacaEval,
    /// MT-Bench's question.jsonl; a FastChat answer file out
    MtBench,
    /// One prompt a line; JSON lines {"prompt", "output"} out
    Text,
}

/// Places a record among the others, where a format has an order of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// By a number.
    Number(i64),
    /// By a name, after all numbers.
    Name(String),
}

impl Format {
    /// What a file that begins with `head` is, if that is plain: by the fields of its first records, else by its name.
    pub(crate) fn guess(head: &[u8], path: &Path) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        let text = text.trim_start_matches('\u{feff}');
        let of = |line: &str| {
            let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return None };
            let has = |name: &str| fields.contains_key(name);
            match () {
                () if has("custom_id") => Some(Self::Openai),
                () if has("question_id") && has("turns") => Some(Self::MtBench),
                () if has("instruction") => Some(Self::AlpacaEval),
                () => None,
            }
        };
        if let Some(format) = text.lines().find_map(of) {
            return Some(format);
        }
        let array = text.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', ']']));
        // Not one a line; `check` says what to do.
        if array || text.lines().next().is_some_and(|line| line.trim() == "{") {
            match () {
                () if text.contains("\"custom_id\"") => return Some(Self::Openai),
                () if text.contains("\"question_id\"") && text.contains("\"turns\"") => return Some(Self::MtBench),
                () => {}
            }
        }
        match path.extension().and_then(|end| end.to_str()) {
            Some("json") if array => Some(Self::AlpacaEval),
            Some("jsonl") => Some(Self::Openai),
            Some("txt") => Some(Self::Text),
            _ if array && text.contains("\"instruction\"") => Some(Self::AlpacaEval),
            _ => None,
        }
    }

    /// How the records of a file that begins with `head` are told apart.
    pub(crate) fn shape(self, head: &[u8]) -> Shape {
        let first = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).iter().find(|byte| !byte.is_ascii_whitespace());
        match self {
            Self::AlpacaEval if first == Some(&b'[') => Shape::Array,
            // Line 5,000 is prompt 5,000, also where it is empty.
            Self::Text => Shape::Lines,
            // As vLLM reads them.
            Self::Openai | Self::AlpacaEval | Self::MtBench => Shape::Filled,
        }
    }

    /// Refuses a whole file whose every line would be refused, with what to do about it.
    pub(crate) fn check(self, head: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(head);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let (name, known) = match self {
            Self::Openai => ("OpenAI batch lines", text.contains("\"custom_id\"")),
            Self::MtBench => ("MT-Bench questions", text.contains("\"question_id\"")),
            Self::AlpacaEval | Self::Text => return Ok(()),
        };
        let array = text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'));
        let laid_out = text.lines().next().is_some_and(|line| line.trim() == "{");
        let lines = || text.lines().filter(|line| !line.trim().is_empty());
        let whole = lines().filter(|line| matches!(serde_json::from_str(line), Ok(Value::Object(_)))).count();
        if !known || !array && !laid_out || whole * 2 >= lines().count() {
            return Ok(());
        }
        let (what, fix) = if array {
            ("are in a JSON array", "put each on a line of its own, such as with jq -c '.[]'")
        } else {
            ("are laid out over several lines each", "put each on a line of its own, such as with jq -c .")
        };
        Err(Failure::input(Code::Format, format!("looks like {name}, but they {what}"), fix))
    }

    /// How results are written to `output`.
    pub(crate) fn output_shape(self, output: &Path) -> Shape {
        let lines = output.extension().is_some_and(|end| end == "jsonl");
        if self == Self::AlpacaEval && !lines { Shape::Array } else { Shape::Lines }
    }

    /// Tokens of an answer at most, where neither record nor flag says; `u32::MAX`: what the window leaves.
    pub(crate) fn max_tokens(self) -> u32 {
        if self == Self::MtBench { mt_bench::MAX_TOKENS } else { u32::MAX }
    }

    /// Reads one record.
    pub(crate) fn parse(self, bytes: &[u8]) -> Result<Record, Refusal> {
        match self {
            Self::Openai => openai::parse(bytes),
            Self::AlpacaEval => alpaca::parse(bytes),
            Self::MtBench => mt_bench::parse(bytes),
            Self::Text => text::parse(bytes),
        }
    }

    /// The output record of answers.
    pub(crate) fn reply(self, answered: &Answered<'_>) -> Value {
        match self {
            Self::Openai => openai::reply(answered),
            Self::AlpacaEval => alpaca::reply(answered),
            Self::MtBench => mt_bench::reply(answered),
            Self::Text => text::reply(answered),
        }
    }

    /// The output record of a refusal; `name` as in [`Answered`].
    pub(crate) fn refusal(self, name: &str, number: u64, line: u64, refusal: &Refusal) -> Value {
        let error = json!({"code": refusal.code, "message": refusal.message, "line": line});
        match self {
            Self::Openai => openai::refusal(name, refusal, error),
            Self::Text => json!({"prompt": null, "output": null, "error": error}),
            Self::AlpacaEval | Self::MtBench => json!({"record": number, "id": refusal.id, "error": error}),
        }
    }

    /// Whether refusals go to a file of their own, because the format's readers take every record for an answer.
    pub(crate) fn errors_apart(self) -> bool {
        matches!(self, Self::AlpacaEval | Self::MtBench)
    }

    /// The place of an output record; `None` in formats that keep the order of the input.
    pub(crate) fn rank(self, record: &[u8]) -> Option<Rank> {
        (self == Self::MtBench).then(|| mt_bench::rank(record))
    }
}

/// The fields of a record that is a JSON object.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refused> {
    let text = utf8(bytes)?;
    let value: Value = serde_json::from_str(text)
        .map_err(|err| ("bad_json", format!("the record is not JSON: {}", column_only(&err))))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(("invalid_record", "the record must be a JSON object".to_owned())),
    }
}

/// The text of a record that is not empty.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Refused> {
    let text = std::str::from_utf8(bytes)
        .map_err(|err| ("invalid_utf8", format!("byte {} of the record is not UTF-8", err.valid_up_to() + 1)))?;
    if text.trim().is_empty() {
        return Err(("empty_line", "the line is empty".to_owned()));
    }
    Ok(text)
}

/// serde_json counts lines within the record, which would be taken for the file's.
fn column_only(err: &serde_json::Error) -> String {
    let text = err.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    format!("{what} at column {}", err.column())
}

#[cfg(test)]
mod tests {
    use super::Format;
    use std::path::Path;

    #[test]
    fn plain_files_are_known() {
        let guess = |text: &str, path: &str| Format::guess(text.as_bytes(), Path::new(path));
        assert_eq!(guess("{\"custom_id\":\"a\"}", "x"), Some(Format::Openai));
        assert_eq!(guess("\u{feff}{\"instruction\":\"a\"}\n", "-"), Some(Format::AlpacaEval));
        assert_eq!(guess("[\n  {\n \"dataset\": \"x\",\n \"instruction\": \"a\"}]", "-"), Some(Format::AlpacaEval));
        assert_eq!(guess("{\"question_id\":81,\"turns\":[\"a\"]}", "x"), Some(Format::MtBench));
        assert_eq!(guess("broken\n{\"custom_id\":\"a\"}", "x"), Some(Format::Openai));
        assert_eq!(guess("Hello\n", "prompts.txt"), Some(Format::Text));
        assert_eq!(guess("[[[[", "x.jsonl"), Some(Format::Openai));
        assert_eq!(guess("Hello\n", "-"), None);
        assert_eq!(guess("", "x.json"), None);
        assert_eq!(guess("[\n {\n  \"custom_id\": \"a\"\n }\n]\n", "x.json"), Some(Format::Openai));
        assert_eq!(guess("{\n  \"custom_id\": \"a\"\n}\n", "-"), Some(Format::Openai));
        assert_eq!(guess("[{\"question_id\": 81, \"turns\": []}]", "question.json"), Some(Format::MtBench));
    }

    #[test]
    fn a_file_of_which_no_line_is_a_record_is_refused_as_a_whole() {
        let ok = |format: Format, text: &str| format.check(text.as_bytes()).is_ok();
        for refused in [
            "[\n {\n  \"custom_id\": \"a\"\n }\n]\n",
            "[{\"custom_id\": \"a\"}]",
            "\u{feff}[\n{\"custom_id\": \"a\"},\n{\"custom_id\": \"b\"}\n]\n",
            "{\n  \"custom_id\": \"a\"\n}\n{\n  \"custom_id\": \"b\"\n}\n",
        ] {
            assert!(!ok(Format::Openai, refused), "{refused}");
            assert!(!ok(Format::MtBench, &refused.replace("custom_id", "question_id")), "{refused}");
        }
        let record = "{\"custom_id\": \"a\"}\n";
        for bad_line in ["{\n", "[{\n", "[]\n", "{\n{\n", ""] {
            assert!(ok(Format::Openai, &(bad_line.to_owned() + &record.repeat(3))), "{bad_line} costs itself");
        }
        assert!(ok(Format::Text, "{\n\"custom_id\"\n"));
    }
}

//! Input and output formats: detection, framing, and dispatch to the parser and writer of each format in `formats/`.

use super::formats::{alpaca_eval, mt_bench, openai, text};
use super::input::Framing;
use super::record::{AnsweredRecord, Record, RecordError, SortKey};
use crate::error::{Code, Failure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// The format of input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// OpenAI batch lines
    Openai,
    /// AlpacaEval instructions (a JSON array or JSON lines); writes a JSON array for its judge
    AlpacaEval,
    /// MT-Bench's question.jsonl; writes a FastChat answer file
    MtBench,
    /// One prompt per line; writes JSON lines {"prompt", "output"}
    Text,
}

impl Format {
    /// Detects the format of a file that begins with `head`: by the fields of its records, otherwise by its name.
    pub(crate) fn detect(head: &[u8], path: &Path) -> Option<Self> {
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
        // Not one record per line: `check` returns the error.
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

    /// Returns how the records of a file that begins with `head` are delimited.
    pub(crate) fn framing(self, head: &[u8]) -> Framing {
        let first = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).iter().find(|byte| !byte.is_ascii_whitespace());
        match self {
            Self::AlpacaEval if first == Some(&b'[') => Framing::JsonArray,
            // Line 5,000 is prompt 5,000, even if lines before it are empty.
            Self::Text => Framing::Lines,
            // vLLM skips empty lines too.
            Self::Openai | Self::AlpacaEval | Self::MtBench => Framing::NonBlankLines,
        }
    }

    /// Refuses a file that does not have one record per line, because every line would fail.
    pub(crate) fn check(self, head: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(head);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let (name, known) = match self {
            Self::Openai => ("OpenAI batch lines", text.contains("\"custom_id\"")),
            Self::MtBench => ("MT-Bench questions", text.contains("\"question_id\"")),
            Self::AlpacaEval | Self::Text => return Ok(()),
        };
        let array = text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'));
        let multi_line = text.lines().next().is_some_and(|line| line.trim() == "{");
        let lines = || text.lines().filter(|line| !line.trim().is_empty());
        let whole = lines().filter(|line| matches!(serde_json::from_str(line), Ok(Value::Object(_)))).count();
        if !known || !array && !multi_line || whole * 2 >= lines().count() {
            return Ok(());
        }
        let (what, fix) = if array {
            ("are in a JSON array", "put one record on each line, for example with jq -c '.[]'")
        } else {
            ("span several lines each", "put one record on each line, for example with jq -c .")
        };
        Err(Failure::input(Code::Format, format!("looks like {name}, but they {what}"), fix))
    }

    /// Returns how results are delimited in `output`.
    pub(crate) fn output_framing(self, output: &Path) -> Framing {
        let lines = output.extension().is_some_and(|end| end == "jsonl");
        if self == Self::AlpacaEval && !lines { Framing::JsonArray } else { Framing::Lines }
    }

    /// Default of the maximum tokens to generate; `u32::MAX`: until the context is full.
    pub(crate) fn max_tokens(self) -> u32 {
        if self == Self::MtBench { mt_bench::MAX_TOKENS } else { u32::MAX }
    }

    /// Parses one record.
    pub(crate) fn parse(self, bytes: &[u8]) -> Result<Record, RecordError> {
        match self {
            Self::Openai => openai::parse(bytes),
            Self::AlpacaEval => alpaca_eval::parse(bytes),
            Self::MtBench => mt_bench::parse(bytes),
            Self::Text => text::parse(bytes),
        }
    }

    /// Returns the output record of an answered record.
    pub(crate) fn output_record(self, answered: &AnsweredRecord<'_>) -> Value {
        match self {
            Self::Openai => openai::output_record(answered),
            Self::AlpacaEval => alpaca_eval::output_record(answered),
            Self::MtBench => mt_bench::output_record(answered),
            Self::Text => text::output_record(answered),
        }
    }

    /// Returns the output record of a failed record; `name` as in [`AnsweredRecord`].
    pub(crate) fn error_record(self, name: &str, number: u64, line: u64, error_record: &RecordError) -> Value {
        let error = json!({"code": error_record.code, "message": error_record.message, "line": line});
        match self {
            Self::Openai => openai::error_record(name, error_record, error),
            Self::Text => json!({"prompt": null, "output": null, "error": error}),
            Self::AlpacaEval | Self::MtBench => json!({"record": number, "id": error_record.id, "error": error}),
        }
    }

    /// Returns whether failed records go to a separate file, because programs that read the format expect only answers.
    pub(crate) fn separates_errors(self) -> bool {
        matches!(self, Self::AlpacaEval | Self::MtBench)
    }

    /// Returns the sort key of an output record; `None` in formats that keep the order of the input.
    pub(crate) fn sort_key(self, record: &[u8]) -> Option<SortKey> {
        (self == Self::MtBench).then(|| mt_bench::sort_key(record))
    }
}

#[cfg(test)]
mod tests {
    use super::Format;
    use std::path::Path;

    #[test]
    fn detects_formats() {
        let detect = |text: &str, path: &str| Format::detect(text.as_bytes(), Path::new(path));
        assert_eq!(detect("{\"custom_id\":\"a\"}", "x"), Some(Format::Openai));
        assert_eq!(detect("\u{feff}{\"instruction\":\"a\"}\n", "-"), Some(Format::AlpacaEval));
        assert_eq!(detect("[\n  {\n \"dataset\": \"x\",\n \"instruction\": \"a\"}]", "-"), Some(Format::AlpacaEval));
        assert_eq!(detect("{\"question_id\":81,\"turns\":[\"a\"]}", "x"), Some(Format::MtBench));
        assert_eq!(detect("broken\n{\"custom_id\":\"a\"}", "x"), Some(Format::Openai));
        assert_eq!(detect("Hello\n", "prompts.txt"), Some(Format::Text));
        assert_eq!(detect("[[[[", "x.jsonl"), Some(Format::Openai));
        assert_eq!(detect("Hello\n", "-"), None);
        assert_eq!(detect("", "x.json"), None);
        assert_eq!(detect("[\n {\n  \"custom_id\": \"a\"\n }\n]\n", "x.json"), Some(Format::Openai));
        assert_eq!(detect("{\n  \"custom_id\": \"a\"\n}\n", "-"), Some(Format::Openai));
        assert_eq!(detect("[{\"question_id\": 81, \"turns\": []}]", "question.json"), Some(Format::MtBench));
    }

    #[test]
    fn a_file_without_one_record_per_line_is_refused() {
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
            assert!(ok(Format::Openai, &(bad_line.to_owned() + &record.repeat(3))), "{bad_line} fails only itself");
        }
        assert!(ok(Format::Text, "{\n\"custom_id\"\n"));
    }
}

//! Recognizes the pre-tokenizer of a byte-level tokenizer.json, which splits a text into words, by its regular
//! expression and options, and returns the name under which llama.cpp (`llama-vocab.cpp`) has the same one.
//!
//! llama.cpp's converter recognizes it by a hash of the ids of one text. This depends on more than the splitting: a
//! Llama 3 tokenizer without BOS becomes `smaug-bpe` there, which no longer keeps whole words.

use serde_json::Value;

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to split text, with its names in llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Splitter {
    /// The pre-tokenizer that never splits a word that is a token (`ignore_merges`), if there is one.
    pub(super) whole_words: Option<&'static str>,
    /// The pre-tokenizer that splits every word by merges, if there is one.
    pub(super) by_merges: Option<&'static str>,
}

const fn splitter(whole_words: Option<&'static str>, by_merges: Option<&'static str>) -> Splitter {
    Splitter { whole_words, by_merges }
}

/// Regular expressions before a `ByteLevel` without one of its own.
const REGEXES: [(&str, Splitter); 3] = [
    (LLAMA_3, splitter(Some("llama-bpe"), Some("smaug-bpe"))),
    (QWEN_2, splitter(None, Some("qwen2"))),
    (TEKKEN, splitter(Some("tekken"), None)),
];
/// `ByteLevel` with its own regular expression, that of GPT-2.
const GPT_2: Splitter = splitter(None, Some("gpt-2"));
/// The same after each digit was split off.
const DIGITS_GPT_2: Splitter = splitter(None, Some("smollm"));

/// Recognizes normalizer and pre-tokenizer of a byte-level tokenizer. The error describes what was found.
pub(super) fn recognize(normalizer: &Value, pre_tokenizer: &Value) -> Result<Splitter, String> {
    let normalizers = parts(normalizer, "normalizers");
    if !normalizers.is_empty() {
        return Err(format!("the normalizer {}", described(&normalizers)));
    }
    let steps = parts(pre_tokenizer, "pretokenizers");
    let found = match steps.as_slice() {
        [split, bytes] if is_byte_level(bytes, false) => regex(split)
            .and_then(|regex| REGEXES.iter().find(|(known, _)| *known == regex))
            .map(|(_, splitter)| *splitter),
        [digits, bytes] if is_byte_level(bytes, true) => single_digits(digits).then_some(DIGITS_GPT_2),
        [bytes] if is_byte_level(bytes, true) => Some(GPT_2),
        _ => None,
    };
    found.ok_or_else(|| format!("the pre-tokenizer {}", described(&steps)))
}

/// Returns the steps of a sequence, or a single step.
fn parts<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value.get(list) {
        Some(Value::Array(all)) => all.iter().collect(),
        _ if value.is_null() => Vec::new(),
        _ => vec![value],
    }
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("without a type")
}

/// Whether `step` maps bytes to characters, adds no space, and splits by GPT-2's regular expression if `splits`.
fn is_byte_level(step: &Value, splits: bool) -> bool {
    kind(step) == "ByteLevel"
        && step.get("add_prefix_space") == Some(&Value::Bool(false))
        && step.get("use_regex").and_then(Value::as_bool).unwrap_or(true) == splits
}

fn single_digits(step: &Value) -> bool {
    kind(step) == "Digits" && step.get("individual_digits") == Some(&Value::Bool(true))
}

/// Returns the regular expression whose matches `step` makes words. Keeping all parts, or removing those outside the
/// matches, is the same for expressions that match every character.
fn regex(step: &Value) -> Option<&str> {
    let behavior = step.get("behavior").and_then(Value::as_str)?;
    let invert = step.get("invert").and_then(Value::as_bool).unwrap_or(false);
    let keeps = matches!((behavior, invert), ("Isolated", _) | ("Removed", true));
    step.get("pattern")?.get("Regex")?.as_str().filter(|_| kind(step) == "Split" && keeps)
}

/// Returns the start of a pattern on one line.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let visible = |c: char| if c.is_control() { c.escape_debug().collect() } else { String::from(c) };
    let more = if text.chars().nth(MAX_CHARS).is_some() { "…" } else { "" };
    text.chars().take(MAX_CHARS).map(visible).collect::<String>() + more
}

/// Describes steps for an error: `Split '[0-9]+' (Isolated), ByteLevel (add_prefix_space true)`.
fn described(steps: &[&Value]) -> String {
    let one = |step: &&Value| {
        let pattern =
            step.get("pattern").and_then(|p| p.get("Regex").or_else(|| p.get("String"))).and_then(Value::as_str);
        let pattern = pattern.map(|text| format!(" '{}'", shortened(text)));
        let set =
            ["behavior", "invert", "add_prefix_space", "use_regex", "individual_digits"].iter().filter_map(|key| {
                match step.get(*key) {
                    Some(Value::Bool(flag)) => Some(format!("{key} {flag}")),
                    Some(Value::String(text)) => Some(format!("{key} {text}")),
                    _ => None,
                }
            });
        let set: Vec<String> = set.collect();
        let set = if set.is_empty() { String::new() } else { format!(" ({})", set.join(", ")) };
        format!("{}{}{set}", kind(step), pattern.unwrap_or_default())
    };
    match steps {
        [] => "none".to_owned(),
        _ => steps.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::{DIGITS_GPT_2, GPT_2, LLAMA_3, REGEXES, TEKKEN, recognize};
    use serde_json::{Value, json};

    fn split(regex: &str, add_prefix_space: bool) -> Value {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": false}]})
    }

    #[test]
    fn recognizes_pre_tokenizers_by_regex_and_options() {
        assert_eq!(recognize(&Value::Null, &split(LLAMA_3, false)), Ok(REGEXES[0].1));
        assert_eq!(recognize(&Value::Null, &split(TEKKEN, false)).unwrap().whole_words, Some("tekken"));
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
        assert_eq!(recognize(&Value::Null, &bytes), Ok(GPT_2));
        let digits = json!({"type": "Digits", "individual_digits": true});
        let both = json!({"type": "Sequence", "pretokenizers": [digits, bytes]});
        assert_eq!(recognize(&Value::Null, &both), Ok(DIGITS_GPT_2));
    }

    #[test]
    fn describes_what_it_does_not_know() {
        let wide = LLAMA_3.replace("{1,3}", "{1,2}");
        let refused = recognize(&Value::Null, &split(&wide, false)).unwrap_err();
        assert!(refused.contains("Split '(?i:'s|'t") && refused.contains("ByteLevel"), "{refused}");
        let refused = recognize(&Value::Null, &split(LLAMA_3, true)).unwrap_err();
        assert!(refused.contains("add_prefix_space true"), "{refused}");
        let refused = recognize(&json!({"type": "NFC"}), &split(LLAMA_3, false)).unwrap_err();
        assert_eq!(refused, "the normalizer NFC");
        assert_eq!(recognize(&Value::Null, &Value::Null).unwrap_err(), "the pre-tokenizer none");
    }
}

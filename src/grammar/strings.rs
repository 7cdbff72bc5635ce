//! Rules for strings: lengths, formats and patterns.

use super::pattern;
use super::rules::{Rules, repeated};
use serde_json::{Map, Value};

/// llama.cpp repeats at most this many times; a longer `maxLength` is cut to it.
const LENGTH_MAX: usize = 2000;

/// Digits of dates and times. A day is at most 28, so that every month has it.
const DATE: &str = r#"[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])"#;
const TIME: &str = r#"([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,3})? ("Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])"#;
const HEX: &str = "[0-9a-f]";
const BYTE: &str = r#"("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])"#;

/// Returns the text of a rule for a string with the keywords of `schema`.
pub(super) fn string(schema: &Map<String, Value>, rules: &mut Rules) -> Result<String, String> {
    let length = |name: &str| match schema.get(name) {
        None => Ok(None),
        Some(value) => {
            let n =
                value.as_u64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64));
            n.map(|n| Some(usize::try_from(n).unwrap_or(usize::MAX)))
                .ok_or_else(|| format!("\"{name}\" must be a whole number"))
        }
    };
    let (min, max) = (length("minLength")?, length("maxLength")?);
    let format = schema.get("format").and_then(Value::as_str).and_then(known_format);
    let quoted = |inside: &str| format!(r#""\"" {inside} "\"""#);
    match (schema.get("pattern"), format) {
        (None, None) if min.is_none() && max.is_none() => Ok(rules.common("string")),
        (None, None) => {
            let min = min.unwrap_or(0);
            if min > LENGTH_MAX || max.is_some_and(|max| max < min) {
                return Err(format!("\"minLength\" is above \"maxLength\" or {LENGTH_MAX}"));
            }
            let char = rules.common("char");
            Ok(match max.map(|max| max.min(LENGTH_MAX)) {
                Some(0) => quoted(""),
                max => quoted(&repeated(&char, min, max)),
            })
        }
        (Some(_), _) | (_, Some(_)) if min.is_some_and(|min| min > 0) || max.is_some() => {
            Err("a length together with \"pattern\" or \"format\" is not supported".to_owned())
        }
        (Some(Value::String(regex)), None) => Ok(quoted(&pattern::compile(regex, rules)?)),
        (Some(Value::String(_)), Some(_)) => Err("\"pattern\" together with \"format\" is not supported".to_owned()),
        (Some(_), _) => Err("\"pattern\" must be a string".to_owned()),
        (None, Some(format)) => Ok(quoted(&format)),
    }
}

/// Returns the characters of a format. Other formats are only annotations, as the specification has it.
fn known_format(name: &str) -> Option<String> {
    Some(match name {
        "date" => DATE.to_owned(),
        "time" => TIME.to_owned(),
        "date-time" => format!("{DATE} \"T\" {TIME}"),
        "uuid" => [8, 4, 4, 4, 12].map(|n| format!("{HEX}{{{n}}}")).join(" \"-\" "),
        "ipv4" => [BYTE; 4].join(" \".\" "),
        "email" => {
            "[a-zA-Z0-9_]+ ([.+-] [a-zA-Z0-9_]+)* \"@\" [a-zA-Z0-9]+ (\"-\" [a-zA-Z0-9]+)* (\".\" [a-zA-Z]{2,10}){1,3}"
                .to_owned()
        }
        _ => return None,
    })
}

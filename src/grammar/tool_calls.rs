//! The grammar of answers that may call functions. The text of a call is one that other models are trained with (Hermes,
//! Qwen):
//!
//! ```text
//! <tool_call>
//! {"name": "NAME", "arguments": {…}}
//! </tool_call>
//! ```

use super::gbnf;
use super::rules::{Rules, literal, repeated};
use super::schema::schema_rule;
use serde_json::Value;

/// Begins a call. No part of it is its beginning again, which [`free_text`] uses.
pub(crate) const CALL_MARKER: &str = "<tool_call>";
/// The text between [`CALL_MARKER`] and the name.
pub(crate) const CALL_BEFORE_NAME: &str = "\n{\"name\": \"";
/// The text between the name and the arguments, which are a JSON object.
pub(crate) const CALL_BEFORE_ARGUMENTS: &str = "\", \"arguments\": ";
/// The text after the arguments.
pub(crate) const CALL_AFTER_ARGUMENTS: &str = "}\n</tool_call>";
/// The text between two calls.
pub(crate) const BETWEEN_CALLS: &str = "\n";
/// Calls in one answer.
const CALLS_MAX: usize = 32;

/// What an answer may be besides calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Otherwise<'s> {
    /// Nothing: it has a call.
    Nothing,
    /// Any text, also before the calls.
    Text,
    /// JSON that this schema allows.
    Json(&'s Value),
}

/// Returns the grammar of answers that call functions. `functions`: names, and schemas of their arguments. `several`: whether
/// an answer may have more than one call.
///
/// # Errors
/// The function, the keyword of its schema that cannot be compiled, and where it is.
pub(crate) fn tool_calls(
    functions: &[(&str, &Value)],
    several: bool,
    otherwise: Otherwise<'_>,
) -> Result<String, String> {
    let mut rules = Rules::default();
    let mut calls = Vec::new();
    for (name, schema) in functions {
        let (all, arguments) = schema_rule(rules, schema).map_err(|why| format!("function '{name}': {why}"))?;
        rules = all;
        calls.push(rules.add(format!("{} {arguments}", literal(&format!("{name}{CALL_BEFORE_ARGUMENTS}")))));
    }
    let (before, after) = (literal(CALL_BEFORE_NAME), literal(CALL_AFTER_ARGUMENTS));
    let call = rules.add(format!("{before} ({}) {after}", calls.join(" | ")));
    let others = format!("({} {call})", literal(&format!("{BETWEEN_CALLS}{CALL_MARKER}")));
    let others = repeated(&others, 0, Some(if several { CALLS_MAX - 1 } else { 0 }));
    let after_marker = rules.add(format!("{call} {others}"));
    let from_marker = format!("{} {after_marker}", literal(CALL_MARKER));
    let root = match otherwise {
        Otherwise::Nothing => from_marker,
        Otherwise::Text => free_text(&mut rules, &after_marker),
        Otherwise::Json(schema) => {
            let (all, json) = schema_rule(rules, schema)?;
            rules = all;
            format!("{from_marker} | {json}")
        }
    };
    let grammar = rules.grammar(root);
    gbnf::check(&grammar).map_err(|why| format!("the schemas are too large: {why}"))?;
    Ok(grammar)
}

/// Returns a rule for any text; after [`CALL_MARKER`] in it, `after_marker` follows. Each rule is a state of the search for
/// the marker: how many of its characters were the last ones of the text.
fn free_text(rules: &mut Rules, after_marker: &str) -> String {
    let marker: Vec<char> = CALL_MARKER.chars().collect();
    let mut states: Vec<String> = marker.iter().map(|_| rules.fresh()).collect();
    states.push(after_marker.to_owned());
    let first = marker.first().copied().unwrap_or('<');
    for (n, next) in marker.iter().enumerate() {
        let forward = &states[n + 1];
        let text = match n {
            0 => format!("\"\" | \"{first}\" {forward} | [^{first}] {}", states[0]),
            _ => format!("\"\" | \"{next}\" {forward} | \"{first}\" {} | [^{first}{next}] {}", states[1], states[0]),
        };
        rules.set(&states[n], text);
    }
    states[0].clone()
}

#[cfg(test)]
mod tests {
    use super::{Otherwise, tool_calls};
    use serde_json::json;

    #[test]
    fn every_kind_of_answer_has_a_grammar() {
        let (city, empty) = (
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}),
            json!({"type": "object", "properties": {}, "additionalProperties": false}),
        );
        let functions = [("weather", &city), ("now", &empty)];
        for several in [false, true] {
            for otherwise in [Otherwise::Nothing, Otherwise::Text, Otherwise::Json(&city)] {
                let grammar = tool_calls(&functions, several, otherwise).unwrap();
                assert!(grammar.contains("\"weather\\\", \\\"arguments\\\": \""), "{grammar}");
            }
        }
        let wrong = json!({"type": "object", "properties": {"a": {"not": {}}}});
        let why = tool_calls(&[("f", &wrong)], false, Otherwise::Nothing).unwrap_err();
        assert_eq!(why, "function 'f': #/properties/a: \"not\" is not supported");
    }
}

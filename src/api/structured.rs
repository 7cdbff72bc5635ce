//! Structured output: `response_format` of OpenAI's API, and `grammar` and `json_schema` of llama-server; with the calls of
//! functions, of which the grammar of an answer is made together.

use super::options::Calls;
use super::refusal::Refusal;
use super::tools::{Choice, Tools};
use crate::grammar::{self, Otherwise};
use serde_json::{Map, Value, json};

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    /// A grammar in GBNF; checked.
    Grammar(String),
    /// Any JSON object.
    Object,
    /// JSON that this schema allows.
    Schema(Value),
}

impl Format {
    /// Returns its grammar. `name`: the parameter that it comes from.
    pub(super) fn compile(self, name: &str) -> Result<String, Refusal> {
        match self {
            Self::Grammar(text) => Ok(text),
            Self::Object => Ok(grammar::any_object()),
            Self::Schema(schema) => grammar::compile(&schema).map_err(|why| not_compiled(name, &why)),
        }
    }
}

/// Returns the form that a parameter asks for; `None` for plain text.
pub(super) fn format(name: &str, value: &Value) -> Result<Option<Format>, Refusal> {
    match name {
        "grammar" => {
            let text =
                value.as_str().ok_or_else(|| Refusal::of("invalid_parameter", name, "must be a text in GBNF"))?;
            if text.is_empty() {
                return Ok(None);
            }
            grammar::check(text).map_err(|why| Refusal::new("invalid_grammar", name, why))?;
            Ok(Some(Format::Grammar(text.to_owned())))
        }
        "json_schema" => Ok(Some(Format::Schema(value.clone()))),
        _ => response_format(name, value),
    }
}

fn response_format(name: &str, format: &Value) -> Result<Option<Format>, Refusal> {
    match format["type"].as_str() {
        Some("text") => Ok(None),
        // llama-server allows a schema here, too.
        Some("json_object") => match format.get("schema") {
            None | Some(Value::Null) => Ok(Some(Format::Object)),
            Some(given) => Ok(Some(Format::Schema(given.clone()))),
        },
        Some("json_schema") => match format["json_schema"].get("schema").or_else(|| format.get("schema")) {
            Some(given) => Ok(Some(Format::Schema(given.clone()))),
            None => Err(Refusal::of("invalid_parameter", name, "needs \"json_schema\": {\"schema\": …}")),
        },
        _ => Err(Refusal::of("invalid_parameter", name, "must have the type text, json_object or json_schema")),
    }
}

/// Returns the grammar of an answer that may call `tools`. Takes a JSON format out of the fields: an answer without calls
/// has this form.
pub(super) fn with_calls(tools: &Tools, fields: &mut Map<String, Value>) -> Result<(String, Calls), Refusal> {
    let mut json = None;
    for name in ["response_format", "json_schema"] {
        let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { continue };
        let found = format(name, value)?;
        if found.is_some() && json.is_some() {
            // Both stay, and are refused together.
            return Err(Refusal::of("invalid_parameter", name, "and another format were given: give one of them"));
        }
        json = found.or(json);
    }
    ["response_format", "json_schema"].iter().for_each(|name| drop(fields.shift_remove(*name)));
    let schema = match json {
        Some(Format::Schema(schema)) => Some(schema),
        Some(Format::Object) => Some(json!({"type": "object"})),
        Some(Format::Grammar(_)) | None => None,
    };
    let (otherwise, calls) = match (&tools.choice, &schema) {
        (Choice::Auto, None) => (Otherwise::Text, Calls::AfterText),
        (Choice::Auto, Some(schema)) => (Otherwise::Json(schema), Calls::Alone),
        (Choice::Required | Choice::Named(_), _) => (Otherwise::Nothing, Calls::Alone),
    };
    let named = |name: &str| matches!(&tools.choice, Choice::Named(only) if only != name);
    let functions: Vec<(&str, &Value)> = tools
        .functions
        .iter()
        .filter(|function| !named(&function.name))
        .map(|function| (function.name.as_str(), &function.parameters))
        .collect();
    let several = tools.parallel && !matches!(tools.choice, Choice::Named(_));
    let grammar = grammar::tool_calls(&functions, several, otherwise).map_err(|why| not_compiled("tools", &why))?;
    Ok((grammar, calls))
}

fn not_compiled(name: &str, why: &str) -> Refusal {
    let why = crate::sanitize::one_line(why);
    Refusal::new("invalid_json_schema", name, format!("the JSON schema cannot be compiled: {why}"))
}

#[cfg(test)]
mod tests {
    use super::format;
    use serde_json::json;

    #[test]
    fn formats_become_grammars() {
        let code = |name: &str, value| {
            let compiled = format(name, &value).and_then(|found| found.map(|found| found.compile(name)).transpose());
            compiled.map_or_else(|refusal| refusal.code, |found| if found.is_some() { "grammar" } else { "text" })
        };
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
        for (name, value, expected) in [
            ("response_format", json!({"type": "text"}), "text"),
            ("response_format", json!({"type": "json_object"}), "grammar"),
            (
                "response_format",
                json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}}),
                "grammar",
            ),
            ("response_format", json!({"type": "json_schema"}), "invalid_parameter"),
            ("response_format", json!({"type": "xml"}), "invalid_parameter"),
            ("response_format", json!("json"), "invalid_parameter"),
            ("json_schema", schema, "grammar"),
            ("json_schema", json!({"not": {}}), "invalid_json_schema"),
            ("grammar", json!("root ::= \"a\""), "grammar"),
            ("grammar", json!("root = a"), "invalid_grammar"),
            ("grammar", json!(7), "invalid_parameter"),
        ] {
            assert_eq!(code(name, value.clone()), expected, "{name} {value}");
        }
    }
}

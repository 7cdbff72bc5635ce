//! Structured output: `response_format` of OpenAI's API, and `grammar` and `json_schema` of llama-server.

use super::refusal::Refusal;
use crate::grammar;
use serde_json::Value;

/// Returns the grammar that a parameter asks for; `None` for plain text.
pub(super) fn grammar(name: &str, value: &Value) -> Result<Option<String>, Refusal> {
    match name {
        "grammar" => {
            let text =
                value.as_str().ok_or_else(|| Refusal::of("invalid_parameter", name, "must be a text in GBNF"))?;
            if text.is_empty() {
                return Ok(None);
            }
            grammar::check(text).map_err(|why| Refusal::new("invalid_grammar", name, why))?;
            Ok(Some(text.to_owned()))
        }
        "json_schema" => schema(name, value).map(Some),
        _ => response_format(name, value),
    }
}

fn response_format(name: &str, format: &Value) -> Result<Option<String>, Refusal> {
    match format["type"].as_str() {
        Some("text") => Ok(None),
        // llama-server allows a schema here, too.
        Some("json_object") => match format.get("schema") {
            None | Some(Value::Null) => Ok(Some(grammar::any_object())),
            Some(given) => schema(name, given).map(Some),
        },
        Some("json_schema") => match format["json_schema"].get("schema").or_else(|| format.get("schema")) {
            Some(given) => schema(name, given).map(Some),
            None => Err(Refusal::of("invalid_parameter", name, "needs \"json_schema\": {\"schema\": …}")),
        },
        _ => Err(Refusal::of("invalid_parameter", name, "must have the type text, json_object or json_schema")),
    }
}

fn schema(name: &str, schema: &Value) -> Result<String, Refusal> {
    grammar::compile(schema).map_err(|why| {
        Refusal::new(
            "invalid_json_schema",
            name,
            format!("the JSON schema cannot be compiled: {}", crate::sanitize::one_line(&why)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::grammar;
    use serde_json::json;

    #[test]
    fn formats_become_grammars() {
        let code = |name: &str, value| {
            grammar(name, &value)
                .map_or_else(|refusal| refusal.code, |found| if found.is_some() { "grammar" } else { "text" })
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

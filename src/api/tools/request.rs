//! `tools`, `tool_choice` and `parallel_tool_calls` of a request.

use crate::api::refusal::Refusal;
use serde_json::{Map, Value, json};

/// Functions of one request, and bytes of a name; the limits of OpenAI's API.
const FUNCTIONS_MAX: usize = 128;
const NAME_MAX: usize = 64;

/// A function that an answer may call.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::api) struct Function {
    /// Its name: letters, digits, `_`, `-`, `.`.
    pub(in crate::api) name: String,
    /// What it does.
    pub(in crate::api) description: Option<String>,
    /// The JSON schema of its arguments, an object.
    pub(in crate::api) parameters: Value,
}

/// `tool_choice`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum Choice {
    /// Answer in words or call functions.
    Auto,
    /// Call at least one function.
    Required,
    /// Call this function, once.
    Named(String),
}

/// The functions that an answer may call.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::api) struct Tools {
    /// At least one.
    pub(in crate::api) functions: Vec<Function>,
    pub(in crate::api) choice: Choice,
    /// Whether an answer may have several calls.
    pub(in crate::api) parallel: bool,
}

impl Tools {
    /// Takes the parameters out of the fields of a body. Returns `None` if the answer may not call functions; they are
    /// checked in any case.
    pub(in crate::api) fn take(fields: &mut Map<String, Value>) -> Result<Option<Self>, Refusal> {
        let functions = match fields.shift_remove("tools") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(tools)) => tools.iter().enumerate().map(function).collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err(invalid("tools", "must be an array of functions")),
        };
        if functions.len() > FUNCTIONS_MAX {
            return Err(invalid("tools", format!("has more than {FUNCTIONS_MAX} functions")));
        }
        let names = functions.iter().map(|function| &function.name);
        if let Some((i, twice)) = names.enumerate().find(|(i, name)| functions[..*i].iter().any(|f| f.name == **name)) {
            return Err(invalid("tools", format!("[{i}] is a second function '{twice}'")));
        }
        let parallel = match fields.shift_remove("parallel_tool_calls") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(parallel)) => parallel,
            Some(_) => return Err(invalid("parallel_tool_calls", "must be true or false")),
        };
        let choice = choice(fields.shift_remove("tool_choice"))?;
        match &choice {
            None => return Ok(None),
            Some(Choice::Auto) if functions.is_empty() => return Ok(None),
            Some(_) if functions.is_empty() => return Err(invalid("tool_choice", "needs \"tools\"")),
            Some(Choice::Named(name)) if !functions.iter().any(|function| function.name == *name) => {
                let name = crate::sanitize::one_line(name);
                return Err(invalid("tool_choice", format!("names the function '{name}', which is not in \"tools\"")));
            }
            Some(_) => {}
        }
        Ok(choice.map(|choice| Self { functions, choice, parallel }))
    }
}

/// Parses a tool.
fn function((i, tool): (usize, &Value)) -> Result<Function, Refusal> {
    let wrong = |why: &str| invalid("tools", format!("[{i}] {why}"));
    if tool["type"].as_str().is_some_and(|kind| kind != "function") {
        return Err(wrong("must have the type \"function\""));
    }
    let given = tool["function"].as_object().ok_or_else(|| wrong("needs \"function\": {\"name\": …}"))?;
    let name = given
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| is_name(name))
        .ok_or_else(|| wrong(&format!("needs a name of up to {NAME_MAX} letters, digits, '_', '-' and '.'")))?;
    let description = match given.get("description") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(wrong("has a \"description\" that is not a string")),
    };
    let parameters = match given.get("parameters") {
        None | Some(Value::Null) => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        Some(Value::Object(schema)) => {
            object_schema(schema).ok_or_else(|| wrong("has parameters that are no object"))?
        }
        Some(_) => return Err(wrong("has \"parameters\" that are not a JSON schema")),
    };
    // `strict` asks for arguments that follow the schema, which they always do.
    let known = ["name", "description", "parameters", "strict"];
    if let Some((other, _)) = given.iter().find(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        let other: String = other.chars().take(40).collect();
        return Err(wrong(&format!("has an unknown field \"{}\"", crate::sanitize::one_line(&other))));
    }
    Ok(Function { name: name.to_owned(), description, parameters })
}

/// Returns the schema of arguments, which are an object even if it does not say so.
fn object_schema(schema: &Map<String, Value>) -> Option<Value> {
    let mut schema = schema.clone();
    let told = ["type", "$ref", "allOf", "anyOf", "oneOf", "const", "enum"];
    if !told.iter().any(|keyword| schema.contains_key(*keyword)) {
        schema.insert("type".to_owned(), "object".into());
    }
    let composed = told[1..5].iter().any(|keyword| schema.contains_key(*keyword));
    (composed || schema.get("type").is_some_and(|kind| kind == "object")).then_some(Value::Object(schema))
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(allowed)
}

/// Parses `tool_choice`; `None`: no calls.
fn choice(value: Option<Value>) -> Result<Option<Choice>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(Some(Choice::Auto)),
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => Ok(None),
            "auto" => Ok(Some(Choice::Auto)),
            // vLLM's and Mistral's name.
            "required" | "any" => Ok(Some(Choice::Required)),
            _ => Err(invalid("tool_choice", "must be none, auto, required or a function")),
        },
        Some(given) => match given["function"]["name"].as_str().or_else(|| given["name"].as_str()) {
            Some(name) if given["type"].as_str().is_none_or(|kind| kind == "function") => {
                Ok(Some(Choice::Named(name.to_owned())))
            }
            _ => Err(invalid("tool_choice", "must be none, auto, required or {\"type\": \"function\", …}")),
        },
    }
}

fn invalid(name: &str, why: impl std::fmt::Display) -> Refusal {
    let space = if why.to_string().starts_with('[') { "" } else { " " };
    Refusal::new("invalid_parameter", name, format!("{name}{space}{why}"))
}

#[cfg(test)]
mod tests {
    use super::{Choice, Tools};
    use serde_json::{Value, json};

    fn take(body: Value) -> Result<Option<Tools>, String> {
        let mut fields = body.as_object().unwrap().clone();
        let taken = Tools::take(&mut fields).map_err(|refusal| refusal.message);
        assert!(taken.is_err() || fields.is_empty(), "{fields:?}");
        taken
    }

    #[test]
    fn choices_are_those_of_openai() {
        let tools =
            json!([{"type": "function", "function": {"name": "f"}}, {"function": {"name": "g-1", "strict": true}}]);
        let choice =
            |choice: Value| take(json!({"tools": tools, "tool_choice": choice})).unwrap().map(|tools| tools.choice);
        assert_eq!(choice(json!("none")), None);
        assert_eq!(choice(Value::Null), Some(Choice::Auto));
        assert_eq!(choice(json!("auto")), Some(Choice::Auto));
        assert_eq!(choice(json!("required")), Some(Choice::Required));
        let named = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(choice(named), Some(Choice::Named("f".to_owned())));
        assert_eq!(take(json!({"tools": [], "parallel_tool_calls": false})), Ok(None));
        assert!(!take(json!({"tools": tools, "parallel_tool_calls": false})).unwrap().unwrap().parallel);
    }

    #[test]
    fn what_cannot_be_called_is_refused() {
        let f = json!({"type": "function", "function": {"name": "f"}});
        for (body, why) in [
            (json!({"tools": 1}), "tools must be an array"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0] must have the type"),
            (json!({"tools": [f, {"type": "function"}]}), "tools[1] needs \"function\""),
            (json!({"tools": [{"function": {"name": "a b"}}]}), "tools[0] needs a name"),
            (json!({"tools": [{"function": {"name": "a", "parameters": {"type": "array"}}}]}), "no object"),
            (json!({"tools": [{"function": {"name": "a", "other": 1}}]}), "unknown field \"other\""),
            (json!({"tools": [f, f]}), "tools[1] is a second function 'f'"),
            (json!({"tool_choice": "required"}), "tool_choice needs \"tools\""),
            (json!({"tools": [f], "tool_choice": "sometimes"}), "tool_choice must be"),
            (
                json!({"tools": [f], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
                "'g', which is not",
            ),
            (json!({"tools": [f], "parallel_tool_calls": 1}), "parallel_tool_calls must be"),
        ] {
            let message = take(body.clone()).unwrap_err();
            assert!(message.contains(why), "{body}: {message}");
        }
    }
}

//! Messages and conversations, and parsing them from JSON. Rendering is in `template.rs` and `render.rs`.

use crate::engine::Token;
use crate::error::{Code, Failure};
use crate::sanitize::one_line;
use serde_json::Value;
use std::io::Read;

/// The role of a message. Tulu was trained with these three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Instructions before the conversation.
    System,
    /// The human.
    User,
    /// The model.
    Assistant,
}

impl Role {
    const ALL: [Self; 3] = [Self::System, Self::User, Self::Assistant];

    /// Returns the role with this name in messages and templates.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Returns the name in messages and templates.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its role.
    pub(crate) role: Role,
    /// Its text, which is never modified.
    pub(crate) content: String,
    /// The ids that the model generated for `content`, without the closing `</s>`. The KV cache has these ids;
    /// tokenizing the text may give others.
    pub(crate) generated: Option<Vec<Token>>,
}

impl Message {
    /// Creates a message with plain text.
    pub(crate) fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), generated: None }
    }

    /// Creates an answer with known ids; `content` is exactly their text.
    pub(crate) fn answer(content: impl Into<String>, ids: Vec<Token>) -> Self {
        Self { generated: Some(ids), ..Self::new(Role::Assistant, content) }
    }

    /// Parses the `{"role": …, "content": …}` object of OpenAI and Transformers. Other fields (a name, tool calls)
    /// would change the prompt, so they are errors. Empty ones, which exporters add, are ignored.
    fn from_json(value: &Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or("a message must be an object with \"role\" and \"content\"")?;
        let role = match fields.get("role") {
            // OpenAI renamed the role of the system message to `developer`.
            Some(Value::String(name)) if name == "developer" => Role::System,
            Some(Value::String(name)) => Role::from_name(name)
                .ok_or_else(|| format!("role '{}' is not system, user or assistant", shorten(name)))?,
            Some(_) => return Err("\"role\" must be a string".to_owned()),
            None => return Err("\"role\" is missing".to_owned()),
        };
        let content = match fields.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => joined(parts)?,
            Some(_) => return Err("\"content\" must be a string".to_owned()),
            None => return Err("\"content\" is missing".to_owned()),
        };
        let is_empty = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
        match fields.iter().find(|(key, v)| !matches!(key.as_str(), "role" | "content") && !is_empty(v)) {
            Some((key, _)) => Err(format!("the field \"{}\" is not supported", shorten(key))),
            None => Ok(Self::new(role, content)),
        }
    }
}

/// Joins text parts with newlines, as vLLM does.
fn joined(parts: &[Value]) -> Result<String, String> {
    let text = |part: &'_ Value| {
        let text = if part["type"] == "text" { part["text"].as_str() } else { part.as_str() };
        text.map(str::to_owned)
    };
    let texts: Option<Vec<String>> = parts.iter().map(text).collect();
    Ok(texts.ok_or("only parts of the type \"text\" are supported")?.join("\n"))
}

/// Parses a conversation: a JSON array of messages. The error names the message at fault.
pub(crate) fn conversation(value: &Value) -> Result<Vec<Message>, String> {
    let list = value.as_array().ok_or("a conversation must be an array of messages")?;
    if list.is_empty() {
        return Err("the conversation has no messages".to_owned());
    }
    list.iter()
        .enumerate()
        .map(|(i, value)| Message::from_json(value).map_err(|why| format!("message {}: {why}", i + 1)))
        .collect()
}

/// Parses the conversations of `input`, one at a time: one or several JSON arrays of messages, with any whitespace
/// between.
pub(crate) fn conversations(input: impl Read) -> impl Iterator<Item = Result<Vec<Message>, Failure>> {
    let values = serde_json::Deserializer::from_reader(input).into_iter::<Value>();
    values.map(|value| {
        let value = value.map_err(|err| {
            let code = if err.is_io() { Code::Io } else { Code::Json };
            Failure::input(code, err.to_string(), "give a JSON array of messages, or one such array per line")
        })?;
        conversation(&value).map_err(|why| {
            Failure::input(
                Code::Message,
                why,
                "a message is {\"role\": \"system|user|assistant\", \"content\": \"text\"}",
            )
        })
    })
}

/// Shortens a name from the input to one short line, for an error.
fn shorten(name: &str) -> String {
    const LIMIT: usize = 40;
    let cut: String = name.chars().take(LIMIT).collect();
    one_line(&cut) + if cut.len() < name.len() { "…" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::{Message, Role, conversations};

    fn read(text: &str) -> Vec<Result<Vec<Message>, String>> {
        conversations(text.as_bytes()).map(|c| c.map_err(|f| f.to_string())).collect()
    }

    #[test]
    fn reads_one_array_or_one_per_line() {
        let hello = vec![Message::new(Role::User, "Hello")];
        assert_eq!(read("[\n {\"role\":\"user\",\n \"content\":\"Hello\"}\n]\n"), [Ok(hello.clone())]);
        let two = "[{\"role\":\"user\",\"content\":\"Hello\"}]\r\n\n[{\"content\":\"Hello\",\"role\":\"user\"}]";
        assert_eq!(read(two), [Ok(hello.clone()), Ok(hello)]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn developer_is_system_and_text_parts_are_joined() {
        let text = r#"[{"role":"developer","content":"x"},{"role":"user","content":[{"type":"text","text":"a"},"b"]}]"#;
        assert_eq!(read(text), [Ok(vec![Message::new(Role::System, "x"), Message::new(Role::User, "a\nb")])]);
        let image = r#"[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]"#;
        assert!(read(image)[0].as_ref().is_err_and(|why| why.contains("only parts of the type")));
    }

    #[test]
    fn errors_name_the_message() {
        for (text, why) in [
            ("{}", "must be an array"),
            ("[]", "no messages"),
            ("[1]", "must be an object"),
            (r#"[{"role":"tool","content":""}]"#, "message 1: role 'tool' is not"),
            (r#"[{"role":"user","content":"a"},{"role":"user"}]"#, "message 2: \"content\" is missing"),
            (r#"[{"content":"a"}]"#, "\"role\" is missing"),
            (r#"[{"role":1,"content":"a"}]"#, "\"role\" must be a string"),
            (r#"[{"role":"user","content":null}]"#, "\"content\" must be a string"),
            (r#"[{"role":"assistant","content":"","tool_calls":[{}]}]"#, "\"tool_calls\" is not supported"),
            (r#"[{"role":"user","content":"\ud800"}]"#, "error[JSON]"),
            ("[", "error[JSON]"),
        ] {
            let error = read(text).into_iter().find_map(Result::err).unwrap_or_default();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(read(&"[".repeat(100_000))[0].is_err(), "nesting is bounded");
        assert!(read(r#"[{"role":"assistant","content":"x","refusal":null,"annotations":[]}]"#)[0].is_ok());
    }
}

//! Messages and conversations, and how they are read from JSON. What they look like to the model is in `template`.

use crate::engine::Token;
use crate::error::{Code, Failure};
use crate::sanitize::one_line;
use serde_json::Value;
use std::io::Read;

/// Who speaks. Tulu was trained on these three.
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

    /// The role that messages and templates write as `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// As messages and templates write it.
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
    /// Who says it.
    pub(crate) role: Role,
    /// What is said, never changed on the way to the model.
    pub(crate) content: String,
    /// The ids the model generated for `content`, without the closing `</s>`: a KV cache holds these, and the same text
    /// tokenized afresh may give others.
    pub(crate) generated: Option<Vec<Token>>,
}

impl Message {
    /// A message of plain text.
    pub(crate) fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), generated: None }
    }

    /// An answer of the model whose ids are known; `content` is exactly what `ids` say.
    pub(crate) fn answer(content: impl Into<String>, ids: Vec<Token>) -> Self {
        Self { generated: Some(ids), ..Self::new(Role::Assistant, content) }
    }

    /// The `{"role": …, "content": …}` object of OpenAI and Transformers. Fields that would change what the model reads
    /// (a name, tool calls) are refused rather than dropped; empty ones, which exporters add, are let through.
    fn from_json(value: &Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or("a message must be an object with \"role\" and \"content\"")?;
        let role = match fields.get("role") {
            // What newer clients of OpenAI call the developer's message is the system's.
            Some(Value::String(name)) if name == "developer" => Role::System,
            Some(Value::String(name)) => {
                Role::named(name).ok_or_else(|| format!("role '{}' is not system, user or assistant", shorten(name)))?
            }
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

/// Parts of text, joined by newlines as vLLM does it.
fn joined(parts: &[Value]) -> Result<String, String> {
    let text = |part: &'_ Value| {
        let text = if part["type"] == "text" { part["text"].as_str() } else { part.as_str() };
        text.map(str::to_owned)
    };
    let texts: Option<Vec<String>> = parts.iter().map(text).collect();
    Ok(texts.ok_or("only parts of the type \"text\" can be read")?.join("\n"))
}

/// A conversation from a JSON array of messages; the error says which message is at fault.
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

/// The conversations of `input`: one JSON array of messages, or several, one a line (or laid out in any other way).
/// They are read one at a time.
pub(crate) fn conversations(input: impl Read) -> impl Iterator<Item = Result<Vec<Message>, Failure>> {
    let values = serde_json::Deserializer::from_reader(input).into_iter::<Value>();
    values.map(|value| {
        let value = value.map_err(|err| {
            let code = if err.is_io() { Code::Io } else { Code::Json };
            Failure::input(code, err.to_string(), "give a JSON array of messages, or one such array a line")
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

/// Names from input inside an error stay short and on one line.
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
    fn one_array_or_one_array_a_line() {
        let hello = vec![Message::new(Role::User, "Hello")];
        assert_eq!(read("[\n {\"role\":\"user\",\n \"content\":\"Hello\"}\n]\n"), [Ok(hello.clone())]);
        let two = "[{\"role\":\"user\",\"content\":\"Hello\"}]\r\n\n[{\"content\":\"Hello\",\"role\":\"user\"}]";
        assert_eq!(read(two), [Ok(hello.clone()), Ok(hello)]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_developer_is_the_system_and_parts_of_text_are_one_text() {
        let text = r#"[{"role":"developer","content":"x"},{"role":"user","content":[{"type":"text","text":"a"},"b"]}]"#;
        assert_eq!(read(text), [Ok(vec![Message::new(Role::System, "x"), Message::new(Role::User, "a\nb")])]);
        let image = r#"[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]"#;
        assert!(read(image)[0].as_ref().is_err_and(|why| why.contains("only parts of the type")));
    }

    #[test]
    fn every_bad_message_is_named() {
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

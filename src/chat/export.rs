//! `/export`: writes a conversation to a file. The extension of its name chooses the format: `.md` to read, `.json` for
//! `prompt`, `.jsonl` for `batch` (one record per question, to ask this or another model again).

use super::conversation::Conversation;
use crate::atomic_file::{self, Mode};
use crate::error::{Code, Failure};
use crate::prompt::{Message, Role};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Writes the whole conversation to `path`.
pub(super) fn export(chat: &Conversation<'_>, path: &Path) -> Result<(), Failure> {
    let text = match path.extension().and_then(|ending| ending.to_str()) {
        Some("md" | "markdown") => markdown(&chat.messages),
        Some("json") => format!("{:#}\n", messages(&chat.messages)),
        Some("jsonl") => records(chat),
        _ => {
            let fix = "end its name in .md (text), .json (messages) or .jsonl (records for batch)";
            return Err(Failure::input(Code::Export, "has no extension of an export format", fix).at(path));
        }
    };
    atomic_file::write(path, text.as_bytes(), Mode::Umask)
}

fn markdown(messages: &[Message]) -> String {
    messages.iter().fold(String::new(), |mut text, message| {
        let who = match message.role {
            Role::System => "System",
            Role::User => "User",
            Role::Assistant => "Tulu",
        };
        let _ = write!(text, "{}## {who}\n\n{}\n", if text.is_empty() { "" } else { "\n" }, message.content);
        text
    })
}

fn messages(messages: &[Message]) -> Value {
    messages.iter().map(|message| json!({"role": message.role.name(), "content": message.content})).collect()
}

/// Makes one record per answer, with all messages before it.
fn records(chat: &Conversation<'_>) -> String {
    let said = &chat.messages;
    let answers = said.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
    let sampling = &chat.parameters.sampling;
    let records = answers.enumerate().map(|(turn, (at, _))| {
        let mut body = json!({
            "messages": messages(&said[..at]),
            // f32 → f64 would write 0.7 as 0.699999988079071.
            "temperature": sampling.temperature.to_string().parse::<f64>().unwrap_or_default(),
            "top_p": sampling.top_p.to_string().parse::<f64>().unwrap_or(1.0),
            "seed": sampling.seed,
        });
        if chat.parameters.max_tokens != u32::MAX {
            body["max_tokens"] = chat.parameters.max_tokens.into();
        }
        let id = format!("turn-{}", turn + 1);
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
    });
    records.fold(String::new(), |mut text, record| {
        let _ = writeln!(text, "{record}");
        text
    })
}

//! Conversations as a text: one JSON object with `messages`, or one array of messages, on each line. They are rendered with
//! the model's template, and only the tokens that the assistant writes are scored.

use super::chunk::Chunk;
use crate::engine::{Token, Vocab};
use crate::error::{Code, Failure};
use crate::prompt::{Message, Prompts, Role, conversation};
use serde_json::Value;

/// Returns whether a file of this name holds conversations.
pub(super) fn is_conversations(name: &str) -> bool {
    let name = name.to_lowercase();
    name.ends_with(".jsonl") || name.ends_with(".json")
}

/// Parses the lines of a file. `name` is the file, for errors.
pub(super) fn parse(text: &str, name: &str) -> Result<Vec<Vec<Message>>, Failure> {
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = |code, why: String| {
            let fix =
                "give a JSON object with \"messages\" on each line, or a plain text whose name does not end in .json";
            Failure::input(code, format!("line {}: {why}", number + 1), fix).at(name)
        };
        let value: Value = serde_json::from_str(line).map_err(|err| at(Code::Json, err.to_string()))?;
        let messages = value.get("messages").unwrap_or(&value);
        all.push(conversation(messages).map_err(|why| at(Code::Message, why))?);
    }
    Ok(all)
}

/// A conversation as tokens.
struct Rendered {
    tokens: Vec<Token>,
    /// Positions of the tokens that the assistant writes.
    answers: Vec<usize>,
}

/// Renders a conversation. An answer begins where the prompt for it ends, and ends with the token that ends answers.
fn render(messages: &[Message], prompts: &Prompts<'_>, vocab: &Vocab<'_>) -> Result<Rendered, Failure> {
    let tokens = prompts.render(messages, false)?.ids;
    let mut answers = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        if message.role != Role::Assistant || i == 0 {
            continue;
        }
        let common = |other: &[Token]| tokens.iter().zip(other).take_while(|(a, b)| a == b).count();
        let begin = common(&prompts.render(&messages[..i], true)?.ids);
        let end = common(&prompts.render(&messages[..=i], false)?.ids);
        // The template may write more after the token that ends the answer, such as a newline.
        let last = (begin..end).rev().find(|at| vocab.is_end(tokens[*at]));
        answers.extend(begin.max(1)..last.map_or(end, |last| last + 1));
    }
    Ok(Rendered { tokens, answers })
}

/// Returns a chunk for each conversation, cut to `n_ctx` tokens; at most `n_max`.
pub(super) fn scored_chunks(
    conversations: &[Vec<Message>],
    prompts: &Prompts<'_>,
    vocab: &Vocab<'_>,
    n_ctx: usize,
    n_max: usize,
) -> Result<Vec<Chunk>, Failure> {
    let mut all = Vec::new();
    for messages in conversations {
        if all.len() == n_max {
            break;
        }
        let Rendered { mut tokens, answers } = render(messages, prompts, vocab)?;
        tokens.truncate(n_ctx);
        let scored: Vec<usize> = answers.into_iter().filter(|at| *at < tokens.len()).collect();
        // Tokens after the last scored one need not be computed.
        if let Some(last) = scored.last() {
            tokens.truncate(last + 1);
            all.push(Chunk { tokens, scored });
        }
    }
    Ok(all)
}

/// Returns the tokens of all conversations, one after the other.
pub(super) fn tokens(conversations: &[Vec<Message>], prompts: &Prompts<'_>) -> Result<Vec<Token>, Failure> {
    let mut all = Vec::new();
    for messages in conversations {
        all.extend(prompts.render(messages, false)?.ids);
    }
    Ok(all)
}

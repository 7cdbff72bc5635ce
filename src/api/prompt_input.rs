//! A prompt as a request gives it: messages, a text, or token ids.

use crate::engine::Token;
use crate::prompt::Message;

/// A prompt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PromptInput {
    /// A conversation.
    Chat(Vec<Message>),
    /// A rendered text to complete; special tokens in it are parsed.
    Text(String),
    /// Token ids to complete.
    Ids(Vec<Token>),
}

impl PromptInput {
    /// Bytes of its text; 0 for ids.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
            Self::Text(text) => text.len(),
            Self::Ids(_) => 0,
        }
    }
}

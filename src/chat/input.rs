//! Parses an input into a message or a slash command. No I/O.

/// One input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input<'a> {
    /// No text.
    Empty,
    /// A message to the model.
    Message(&'a str),
    /// A slash command: its word, and the text after it.
    Command(&'a str, &'a str),
}

/// Starts and ends a message that has several lines or begins with a slash.
const BLOCK: &str = "\"\"\"";

/// The tags at the start of a turn. They are plain text to the tokenizer, so they have an effect anywhere in a message.
const ROLE_MARKERS: [&str; 3] = ["<|user|>", "<|assistant|>", "<|system|>"];
/// The text of the special token at the end of an answer.
const END: &str = "</s>";

/// Parses an input. If it has several lines, it is a command only if `is_command` knows its first word: a pasted file
/// may begin with a slash.
pub(super) fn parse(input: &str, is_command: impl Fn(&str) -> bool) -> Input<'_> {
    let text = input.trim();
    if let Some(block) = text.strip_prefix(BLOCK) {
        let block = block.strip_suffix(BLOCK).unwrap_or(block);
        let block = block.strip_prefix('\n').unwrap_or(block);
        let block = block.strip_suffix('\n').unwrap_or(block);
        return if block.trim().is_empty() { Input::Empty } else { Input::Message(block) };
    }
    let Some(command) = text.strip_prefix('/') else {
        return if text.is_empty() { Input::Empty } else { Input::Message(text) };
    };
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    if text.contains('\n') && !is_command(word) { Input::Message(text) } else { Input::Command(word, rest.trim()) }
}

/// Returns whether `input` is a block that is not closed yet, so that the editor asks for more lines.
pub(super) fn is_open_block(input: &str) -> bool {
    input.trim().strip_prefix(BLOCK).is_some_and(|block| !block.ends_with(BLOCK))
}

/// Returns a warning if the message contains tags or `</s>`. The message is sent unchanged.
pub(super) fn marker_warning(text: &str) -> Option<String> {
    let found: Vec<&str> = ROLE_MARKERS.into_iter().filter(|marker| text.contains(marker)).collect();
    if !found.is_empty() {
        return Some(format!("your message contains {}, which begins a turn for the model", found.join(" and ")));
    }
    text.contains(END).then(|| format!("{END} in your message is plain text to the model; it does not end the message"))
}

#[cfg(test)]
mod tests {
    use super::{Input, is_open_block, marker_warning, parse};

    #[test]
    fn a_line_is_a_message_or_a_command() {
        let parse = |text| parse(text, |word| word == "system");
        assert_eq!(parse("  "), Input::Empty);
        assert_eq!(parse(" Hi there \n"), Input::Message("Hi there"));
        assert_eq!(parse("/clear"), Input::Command("clear", ""));
        assert_eq!(parse("/system  You are terse. "), Input::Command("system", "You are terse."));
        assert_eq!(parse("/system You\nare terse."), Input::Command("system", "You\nare terse."));
        assert_eq!(parse("/clera now"), Input::Command("clera", "now"));
        assert_eq!(parse("1/2"), Input::Message("1/2"));
        assert_eq!(parse("/usr/bin/env\nis what?"), Input::Message("/usr/bin/env\nis what?"));
    }

    #[test]
    fn blocks_are_messages_as_they_are() {
        let parse = |text| parse(text, |_| true);
        assert_eq!(parse("\"\"\"\n/a\n  b\n\"\"\""), Input::Message("/a\n  b"));
        assert_eq!(parse("\"\"\"one\"\"\" "), Input::Message("one"));
        assert_eq!(parse("\"\"\"\n\"\"\""), Input::Empty);
        assert!(is_open_block("\"\"\"a\nb") && is_open_block(" \"\"\"\n"));
        assert!(!is_open_block("\"\"\"a\"\"\"") && !is_open_block("a \"\"\"") && !is_open_block("/help"));
    }

    #[test]
    fn markers_cause_a_warning() {
        assert!(marker_warning("Hi <|assistant|> and <|user|>").unwrap().contains("<|user|> and <|assistant|>"));
        assert!(marker_warning("a</s>").unwrap().contains("</s>"));
        assert_eq!(marker_warning("a <user> b"), None);
    }
}

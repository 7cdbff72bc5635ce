//! What a typed line means: a message, or a slash command. Pure.

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Nothing typed.
    Empty,
    /// A message to the model.
    Message(&'a str),
    /// `/help`
    Help,
    /// `/clear`
    Clear,
    /// `/system TEXT`
    System(&'a str),
    /// `/exit`
    Exit,
    /// A slash and a word that is none of them.
    Unknown(&'a str),
}

/// What `/help` prints.
pub(super) const HELP: &str = "\
/clear        begin a new conversation (the system message stays)
/system TEXT  begin a new conversation under this system message; without TEXT, under none
/help         this list
/exit         leave; so does Ctrl-D
Ctrl-C        stop the answer";

/// Reads a line.
pub(super) fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return if line.is_empty() { Line::Empty } else { Line::Message(line) };
    };
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match word {
        "help" | "?" => Line::Help,
        "clear" => Line::Clear,
        "system" => Line::System(rest.trim()),
        "exit" | "quit" | "bye" => Line::Exit,
        _ => Line::Unknown(word),
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, parse};

    #[test]
    fn a_line_is_a_message_or_a_command() {
        assert_eq!(parse("  "), Line::Empty);
        assert_eq!(parse(" Hi there \n"), Line::Message("Hi there"));
        assert_eq!(parse("/clear"), Line::Clear);
        assert_eq!(parse("/system  You are terse. "), Line::System("You are terse."));
        assert_eq!(parse("/system"), Line::System(""));
        assert_eq!(parse("/bye"), Line::Exit);
        assert_eq!(parse("/clera now"), Line::Unknown("clera"));
        assert_eq!(parse("1/2"), Line::Message("1/2"));
    }
}

//! Finds calls in the text of an answer, as it comes. The grammar of the request (`grammar/tool_calls.rs`) gives it its form.

use crate::grammar::{BETWEEN_CALLS, CALL_AFTER_ARGUMENTS, CALL_BEFORE_ARGUMENTS, CALL_BEFORE_NAME, CALL_MARKER};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text outside of calls.
    Text(String),
    /// A call of the function with this name begins.
    Call(String),
    /// The next text of the arguments of the call, which are a JSON object.
    Arguments(String),
    /// The call is complete.
    End,
}

/// A call in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    /// Name of the function.
    pub(crate) name: String,
    /// The arguments: a JSON object, unless the call is not complete.
    pub(crate) arguments: String,
    /// Whether the answer did not end within the call.
    pub(crate) complete: bool,
}

/// The place in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After the marker, before the arguments.
    Header,
    Arguments,
    /// After the arguments.
    Tail,
    /// After a call.
    Between,
}

/// Splits an answer into its parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallParser {
    state: State,
    /// Text that the next text decides about.
    held: String,
    /// Objects and arrays that are open in the arguments.
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl CallParser {
    /// Adds text, and returns the parts that are certain now.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// Returns the rest at the end of the answer.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Text | State::Between if !rest.is_empty() => vec![Part::Text(rest)],
            // Part of the header or of the end of a call.
            _ => Vec::new(),
        }
    }

    /// Takes one part out of the held text. Returns false if more text is needed.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.state {
            State::Text => {
                let found = self.held.find(CALL_MARKER);
                let end = found.unwrap_or(self.held.len() - partial(&self.held, CALL_MARKER));
                if end > 0 {
                    parts.push(Part::Text(self.held.drain(..end).collect()));
                }
                found.is_some() && self.skip(CALL_MARKER, State::Header)
            }
            State::Header => {
                let Some(end) = self.held.find(CALL_BEFORE_ARGUMENTS) else { return false };
                let name = self.held[..end].strip_prefix(CALL_BEFORE_NAME).unwrap_or_default().to_owned();
                parts.push(Part::Call(name));
                self.held.drain(..end + CALL_BEFORE_ARGUMENTS.len());
                self.state = State::Arguments;
                true
            }
            State::Arguments => {
                let end = self.arguments_end();
                let arguments: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
                if !arguments.is_empty() {
                    parts.push(Part::Arguments(arguments));
                }
                if end.is_some() {
                    self.state = State::Tail;
                }
                end.is_some()
            }
            State::Tail => {
                let complete = self.held.len() >= CALL_AFTER_ARGUMENTS.len();
                if complete {
                    parts.push(Part::End);
                    self.skip(CALL_AFTER_ARGUMENTS, State::Between);
                }
                complete
            }
            State::Between if BETWEEN_CALLS.starts_with(&self.held) => false,
            State::Between => {
                if let Some(rest) = self.held.strip_prefix(BETWEEN_CALLS) {
                    if CALL_MARKER.starts_with(rest) && rest.len() < CALL_MARKER.len() {
                        return false;
                    }
                    if rest.starts_with(CALL_MARKER) {
                        self.held.drain(..BETWEEN_CALLS.len());
                    }
                }
                self.state = State::Text;
                true
            }
        }
    }

    /// Removes `text`, with which the held text begins.
    fn skip(&mut self, text: &str, next: State) -> bool {
        let end = if self.held.is_char_boundary(text.len()) { text.len() } else { self.held.len() };
        self.held.drain(..end);
        self.state = next;
        true
    }

    /// Returns the end of the arguments in the held text, if it is there.
    fn arguments_end(&mut self) -> Option<usize> {
        for (at, byte) in self.held.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Returns the text outside of calls, and the calls.
pub(crate) fn parse_calls(answer: &str) -> (String, Vec<Call>) {
    let mut parser = CallParser::default();
    let parts = parser.push(answer).into_iter();
    let (mut text, mut calls) = (String::new(), Vec::<Call>::new());
    for part in parts.chain(parser.finish()) {
        match (part, calls.last_mut()) {
            (Part::Text(more), _) => text.push_str(&more),
            (Part::Call(name), _) => calls.push(Call { name, ..Call::default() }),
            (Part::Arguments(more), Some(call)) => call.arguments.push_str(&more),
            (Part::End, Some(call)) => call.complete = true,
            (Part::Arguments(_) | Part::End, None) => {}
        }
    }
    (text, calls)
}

/// Returns the bytes at the end of `text` that are a beginning of `marker`.
fn partial(text: &str, marker: &str) -> usize {
    (1..marker.len()).rev().find(|len| text.ends_with(&marker[..*len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Call, CallParser, Part, parse_calls};

    const TWO: &str = "Let me see: 1 <tool.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"a}\\\"]é\", \"n\": [1, {}]}}\n\
                       </tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";

    fn call(name: &str, arguments: &str, complete: bool) -> Call {
        Call { name: name.to_owned(), arguments: arguments.to_owned(), complete }
    }

    /// Joins parts of the same kind.
    fn joined(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
        let mut all: Vec<Part> = Vec::new();
        for part in parts {
            match (all.last_mut(), part) {
                (Some(Part::Text(text)), Part::Text(more)) | (Some(Part::Arguments(text)), Part::Arguments(more)) => {
                    text.push_str(&more);
                }
                (_, part) => all.push(part),
            }
        }
        all
    }

    #[test]
    fn the_parts_do_not_depend_on_how_the_text_arrives() {
        let arguments = "{\"city\": \"a}\\\"]é\", \"n\": [1, {}]}";
        let (text, calls) = parse_calls(TWO);
        assert_eq!(text, "Let me see: 1 <tool.\n");
        assert_eq!(calls, [call("weather", arguments, true), call("now", "{}", true)]);
        let expected = joined(CallParser::default().push(TWO));
        let chars: Vec<char> = TWO.chars().collect();
        for size in 1..40 {
            let mut parser = CallParser::default();
            let pieces = chars.chunks(size).map(|piece| piece.iter().collect::<String>());
            let parts: Vec<Part> = pieces.flat_map(|piece| parser.push(&piece)).collect();
            assert_eq!(joined(parts.into_iter().chain(parser.finish())), expected, "{size}");
        }
    }

    #[test]
    fn an_answer_may_end_anywhere() {
        for (answer, text, calls) in [
            ("", "", vec![]),
            ("Hello <tool_cal", "Hello <tool_cal", vec![]),
            ("<tool_call>\n{\"na", "", vec![]),
            ("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x", "", vec![call("f", "{\"a\": \"x", false)]),
            ("<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool", "", vec![call("f", "{}", false)]),
            ("<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n", "\n", vec![call("f", "{}", true)]),
        ] {
            assert_eq!(parse_calls(answer), (text.to_owned(), calls), "{answer}");
        }
    }
}

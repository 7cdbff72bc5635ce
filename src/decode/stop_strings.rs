//! Stop strings: the output is truncated at the first match. A stop string can span several tokens, so text that could
//! be the start of a stop string is held back until the next tokens decide.

/// The markers that begin the next turn of a Tulu conversation. They are ordinary text for the model, so a model that
/// does not generate `</s>` generates them. Variants with a leading newline come first: that newline belongs to the
/// marker.
const TURN_MARKERS: [&str; 6] =
    ["\n<|user|>", "\n<|assistant|>", "\n<|system|>", "<|user|>", "<|assistant|>", "<|system|>"];

/// Returns the stop strings of a conversation: the markers, if its prompt has them (`is_tulu`). In the answer of another
/// model they are text.
pub(crate) fn turn_markers(is_tulu: bool) -> Vec<String> {
    if is_tulu { TURN_MARKERS.map(str::to_owned).to_vec() } else { Vec::new() }
}

/// Finds stop strings in streamed text.
#[derive(Debug)]
pub(super) struct StopStrings {
    strings: Vec<String>,
    held: String,
}

impl StopStrings {
    /// Empty strings are ignored.
    pub(super) fn new(strings: Vec<String>) -> Self {
        Self { strings: strings.into_iter().filter(|string| !string.is_empty()).collect(), held: String::new() }
    }

    /// Appends text. Returns the text that can be emitted, and whether a stop string follows it.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.strings.iter().filter_map(|string| self.held.find(string)).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let kept = self.held.len() - self.longest_partial_match();
        let rest = self.held.split_off(kept);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Returns the text held back, at the end of the answer.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Returns the bytes at the end of the held text that could be the start of a stop string.
    fn longest_partial_match(&self) -> usize {
        let partial_match = |string: &String| {
            (1..string.len())
                .rev()
                .filter(|len| string.is_char_boundary(*len))
                .find(|len| self.held.ends_with(&string[..*len]))
                .unwrap_or(0)
        };
        self.strings.iter().map(partial_match).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{StopStrings, TURN_MARKERS};

    fn turn() -> StopStrings {
        StopStrings::new(TURN_MARKERS.map(str::to_owned).to_vec())
    }

    #[test]
    fn a_marker_split_over_tokens_is_found_and_not_emitted() {
        let mut stop = turn();
        let steps: Vec<_> =
            ["Hi.", "\n", "<", "|", "us", "er|", ">\nBye"].iter().map(|piece| stop.push(piece)).collect();
        assert_eq!(steps.first(), Some(&("Hi.".to_owned(), false)));
        assert!(steps[1..6].iter().all(|step| step == &(String::new(), false)), "{steps:?}");
        assert_eq!(steps.last(), Some(&(String::new(), true)));
    }

    #[test]
    fn a_partial_match_is_emitted_if_it_fails() {
        let mut stop = turn();
        assert_eq!(stop.push("a\n"), ("a".to_owned(), false));
        assert_eq!(stop.push("<|us"), (String::new(), false));
        assert_eq!(stop.push("a|>"), ("\n<|usa|>".to_owned(), false));
        assert_eq!(stop.push("b\n<"), ("b".to_owned(), false));
        assert_eq!(stop.finish(), "\n<");
    }

    #[test]
    fn the_first_match_wins() {
        let mut stop = StopStrings::new(vec!["b".into(), "abc".into(), String::new()]);
        assert_eq!(stop.push("xa"), ("x".to_owned(), false));
        assert_eq!(stop.push("b"), ("a".to_owned(), true), "the shorter string is complete first");
        let mut stop = turn();
        assert_eq!(stop.push("x\n<|user|>y<|system|>"), ("x".to_owned(), true));
    }

    #[test]
    fn multi_byte_characters_are_never_split() {
        let mut stop = StopStrings::new(vec!["éa".into()]);
        assert_eq!(stop.push("xé"), ("x".to_owned(), false));
        assert_eq!(stop.push("é"), ("é".to_owned(), false));
        assert_eq!(stop.push("a"), (String::new(), true));
    }
}

//! Stop strings: the text of an answer ends where the first of them begins. They may arrive in pieces, so text that
//! could be the beginning of one is held back until it is clear.

/// The markers that begin the next turn of a Tulu conversation. They are ordinary text to the model, so one that misses
/// its `</s>` goes on to write them. With the newline before them first: it belongs to the marker, not to the answer.
pub(crate) const TURN_MARKERS: [&str; 6] =
    ["\n<|user|>", "\n<|assistant|>", "\n<|system|>", "<|user|>", "<|assistant|>", "<|system|>"];

/// Looks for stop strings in text that comes in pieces.
#[derive(Debug)]
pub(super) struct Stop {
    strings: Vec<String>,
    held: String,
}

impl Stop {
    /// Empty strings, which every text contains, are left out.
    pub(super) fn new(strings: Vec<String>) -> Self {
        Self { strings: strings.into_iter().filter(|string| !string.is_empty()).collect(), held: String::new() }
    }

    /// The text that is certainly part of the answer, and whether a stop string follows it.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.strings.iter().filter_map(|string| self.held.find(string)).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let kept = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(kept);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The end of the text: no stop string will be completed.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that could be the beginning of a stop string.
    fn longest_beginning(&self) -> usize {
        let beginning = |string: &String| {
            (1..string.len())
                .rev()
                .filter(|len| string.is_char_boundary(*len))
                .find(|len| self.held.ends_with(&string[..*len]))
                .unwrap_or(0)
        };
        self.strings.iter().map(beginning).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Stop, TURN_MARKERS};

    fn turn() -> Stop {
        Stop::new(TURN_MARKERS.map(str::to_owned).to_vec())
    }

    #[test]
    fn a_marker_split_over_tokens_is_found_and_not_given_out() {
        let mut stop = turn();
        let steps: Vec<_> =
            ["Hi.", "\n", "<", "|", "us", "er|", ">\nBye"].iter().map(|piece| stop.push(piece)).collect();
        assert_eq!(steps.first(), Some(&("Hi.".to_owned(), false)));
        assert!(steps[1..6].iter().all(|step| step == &(String::new(), false)), "{steps:?}");
        assert_eq!(steps.last(), Some(&(String::new(), true)));
    }

    #[test]
    fn what_only_looked_like_a_marker_is_given_out() {
        let mut stop = turn();
        assert_eq!(stop.push("a\n"), ("a".to_owned(), false));
        assert_eq!(stop.push("<|us"), (String::new(), false));
        assert_eq!(stop.push("a|>"), ("\n<|usa|>".to_owned(), false));
        assert_eq!(stop.push("b\n<"), ("b".to_owned(), false));
        assert_eq!(stop.finish(), "\n<");
    }

    #[test]
    fn the_earliest_of_several_wins() {
        let mut stop = Stop::new(vec!["b".into(), "abc".into(), String::new()]);
        assert_eq!(stop.push("xa"), ("x".to_owned(), false));
        assert_eq!(stop.push("b"), ("a".to_owned(), true), "the shorter string is complete first");
        let mut stop = turn();
        assert_eq!(stop.push("x\n<|user|>y<|system|>"), ("x".to_owned(), true));
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        let mut stop = Stop::new(vec!["éa".into()]);
        assert_eq!(stop.push("xé"), ("x".to_owned(), false));
        assert_eq!(stop.push("é"), ("é".to_owned(), false));
        assert_eq!(stop.push("a"), (String::new(), true));
    }
}

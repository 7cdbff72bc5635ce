//! The texts that the program carries. The project wrote them: no text comes from anywhere else.

/// A text of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shipped {
    /// For `eval`: prose and conversations.
    Evaluation,
    /// For importance matrices: prose, conversations, code and lists. It has no phrase in common with the other one.
    Calibration,
}

impl Shipped {
    /// Its name in reports and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Evaluation => "tulu-quant evaluation text",
            Self::Calibration => "tulu-quant calibration text",
        }
    }

    /// The text.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Evaluation => include_str!("evaluation.txt"),
            Self::Calibration => include_str!("calibration.txt"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shipped;
    use std::collections::HashSet;

    /// Words of a phrase. Shorter phrases ("at the end of the day") occur in every text.
    const PHRASE: usize = 5;

    fn words(text: &str) -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    }

    #[test]
    fn the_two_texts_have_no_phrase_in_common() {
        let [evaluation, calibration] = [Shipped::Evaluation, Shipped::Calibration].map(|text| words(text.text()));
        let known: HashSet<&[String]> = calibration.windows(PHRASE).collect();
        let common: Vec<String> =
            evaluation.windows(PHRASE).filter(|phrase| known.contains(phrase)).map(|phrase| phrase.join(" ")).collect();
        assert!(common.is_empty(), "{common:#?}");
    }

    #[test]
    fn each_text_repeats_little_of_itself() {
        for text in [Shipped::Evaluation, Shipped::Calibration] {
            let words = words(text.text());
            let different: HashSet<&[String]> = words.windows(PHRASE).collect();
            let all = words.len() - PHRASE + 1;
            assert!(different.len() * 100 > all * 97, "{}: {} of {all}", text.name(), different.len());
        }
    }
}

//! Decodes streamed UTF-8. A character can span several tokens (byte tokens); it is returned when it is complete.
//! Invalid bytes become U+FFFD.

/// Collects bytes until they are complete characters.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// Appends bytes; returns the characters that are now complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut unfinished = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let last = chunks.peek().is_none();
            match chunk.invalid() {
                [] => {}
                // Only the very end can still be completed.
                bytes if last && is_incomplete_character(bytes) => unfinished = bytes.len(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        let kept = self.pending.len() - unfinished;
        self.pending.drain(..kept);
        text
    }

    /// Returns the rest at the end of the text: an incomplete character becomes U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

fn is_incomplete_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|err| err.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::Utf8;

    #[test]
    fn a_character_split_over_tokens_is_returned_whole() {
        let mut utf8 = Utf8::default();
        let pieces: Vec<String> = "aé€😀z".as_bytes().iter().map(|byte| utf8.push(&[*byte])).collect();
        assert_eq!(pieces, ["a", "", "é", "", "", "€", "", "", "", "😀", "z"]);
        assert_eq!(utf8.finish(), "");
    }

    #[test]
    fn invalid_bytes_are_replaced_as_soon_as_they_are_known() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\xff"), "a\u{fffd}");
        assert_eq!(utf8.push(b"\xe2\x82"), "");
        assert_eq!(utf8.push(b"b"), "\u{fffd}b");
        assert_eq!(utf8.push(b"\xf0\x9f"), "");
        assert_eq!(utf8.finish(), "\u{fffd}");
        assert_eq!(utf8.finish(), "");
    }
}

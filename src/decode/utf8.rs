//! Bytes of tokens to whole characters. A character may come in several tokens (byte tokens); nothing is given out
//! before it is complete, and what can never become one is U+FFFD.

/// Collects bytes until they are characters.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// The characters that `bytes` complete.
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
                bytes if last && could_begin_a_character(bytes) => unfinished = bytes.len(),
                _ => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        let kept = self.pending.len() - unfinished;
        self.pending.drain(..kept);
        text
    }

    /// The end of the text: what is still pending will never be completed.
    pub(crate) fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

fn could_begin_a_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|err| err.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::Utf8;

    #[test]
    fn a_character_split_over_tokens_comes_out_whole() {
        let mut utf8 = Utf8::default();
        let pieces: Vec<String> = "aé€😀z".as_bytes().iter().map(|byte| utf8.push(&[*byte])).collect();
        assert_eq!(pieces, ["a", "", "é", "", "", "€", "", "", "", "😀", "z"]);
        assert_eq!(utf8.finish(), "");
    }

    #[test]
    fn what_cannot_become_a_character_is_replaced_as_soon_as_that_is_known() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\xff"), "a\u{fffd}");
        assert_eq!(utf8.push(b"\xe2\x82"), "");
        assert_eq!(utf8.push(b"b"), "\u{fffd}b");
        assert_eq!(utf8.push(b"\xf0\x9f"), "");
        assert_eq!(utf8.finish(), "\u{fffd}");
        assert_eq!(utf8.finish(), "");
    }
}

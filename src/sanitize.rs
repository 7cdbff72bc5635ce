//! Text from outside (file names, tensor names, messages of a server, a model's answer) as it may be shown on a terminal.

use std::path::Path;

/// Whether `c` could do something to a terminal but be seen: control characters (C0, DEL, C1), the marks that reorder or
/// hide what is written (bidi embeddings, overrides and isolates, tags), and the line separators that are no newline.
pub(crate) fn hazardous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text from outside (file names, tensor names, llama.cpp's log) on one line, with nothing that acts on a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if hazardous(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// A JSON value on one line, with nothing that acts on a terminal: what does is escaped as JSON has it.
pub(crate) fn json_line(value: &serde_json::Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if hazardous(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// A path as messages show it.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// `text` without what acts on a terminal, newline and tab excepted. What is left of an escape sequence is plain text, so
/// that nothing a model wrote disappears altogether. Works on single characters: it does not matter how text was cut.
pub(crate) fn visible(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !hazardous(*c)).collect()
}

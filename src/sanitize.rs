//! Makes text from outside (file names, tensor names, server messages, answers) safe to show on a terminal.

use std::path::Path;

/// Returns whether a terminal may act on `c` instead of showing it: control characters (C0, DEL, C1), characters that
/// reorder or hide text (bidi embeddings, overrides and isolates, tags), and line separators other than newline.
pub(crate) fn hazardous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns text from outside on one line, with unsafe characters escaped.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if hazardous(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// Returns a JSON value on one line, with unsafe characters escaped in JSON's way.
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

/// Returns a path as messages show it: on one line, with unsafe characters escaped.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// Returns `text` without unsafe characters, except newline and tab. The rest of an escape sequence stays as plain
/// text, so that no answer disappears. Each character is handled alone, so `text` may be split anywhere.
pub(crate) fn visible(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !hazardous(*c)).collect()
}

//! Text in HTML.

/// Escapes text for HTML, and shows line breaks and other control characters as symbols.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('⏎'),
            c if crate::sanitize::hazardous(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

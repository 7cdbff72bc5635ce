//! Translates Jinja2 syntax that minijinja lacks: line ends, TRL's `{% generation %}` tag, and string formatting with
//! `%`.

/// Translates a template; meaning and line numbers stay the same.
pub(super) fn to_minijinja(source: &str) -> String {
    // Jinja2 treats every line end as \n.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let len = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map_or(tag.len(), |end| end + 2),
            Some(b'%') => {
                let (len, written) = code(tag, "%}");
                out.push_str(&written);
                let (raw, end) = raw(&tag[..len], &tag[len..]);
                out.push_str(raw);
                rest = &tag[len + end..];
                continue;
            }
            Some(b'{') => {
                let (len, written) = code(tag, "}}");
                out.push_str(&written);
                rest = &tag[len..];
                continue;
            }
            _ => 1,
        };
        out.push_str(&tag[..len]);
        rest = &tag[len..];
    }
    out.push_str(rest);
    out
}

/// Returns the raw text after a `{% raw %}` tag, and its length; an empty text after another tag.
fn raw<'s>(tag: &str, after: &'s str) -> (&'s str, usize) {
    let word = tag.trim_start_matches("{%").trim_end_matches("%}").trim_matches(['-', '+', ' ', '\n', '\t']);
    let end = if word == "raw" { after.find("endraw").unwrap_or(after.len()) } else { 0 };
    // The raw text ends at the `{%` before `endraw`.
    let end = after[..end].rfind("{%").unwrap_or(end);
    (&after[..end], end)
}

/// The kinds of tokens that matter for the translation of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Space,
    Text,
    Word,
    Open,
    Close,
    Other,
}

/// Translates the tag or expression at the beginning of `tag`, up to `end`. Returns its length and the translation.
fn code(tag: &str, end: &str) -> (usize, String) {
    let (mut tokens, mut at, mut depth) = (Vec::new(), 2, 0_u32);
    while let Some(c) = tag[at..].chars().next() {
        if depth == 0 && (tag[at..].starts_with(end) || tag[at..].starts_with(&format!("-{end}"))) {
            break;
        }
        let (kind, len) = match c {
            '"' | '\'' => (Kind::Text, text_len(&tag[at..], c)),
            '(' | '[' | '{' => (Kind::Open, 1),
            ')' | ']' | '}' => (Kind::Close, 1),
            c if c.is_whitespace() => (Kind::Space, c.len_utf8()),
            c if word(c) => (Kind::Word, tag[at..].find(|c| !word(c)).unwrap_or(tag.len() - at)),
            c => (Kind::Other, c.len_utf8()),
        };
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push((kind, &tag[at..at + len]));
        at += len;
    }
    let close = tag[at..].find(end).map_or(0, |n| n + end.len());
    if end == "%}" {
        replace_generation(&mut tokens);
    }
    let written = format!("{}{}{}", &tag[..2], translate_formats(&tokens), &tag[at..at + close]);
    (at + close, written)
}

fn word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Returns the length of a string literal in bytes, with its quotes.
fn text_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + 1,
            _ => {}
        }
    }
    text.len()
}

/// Replaces `{% generation %}` by `{% with %}`. It marks answers for training and outputs its body; both tags open a
/// scope.
fn replace_generation(tokens: &mut [(Kind, &str)]) {
    let first = tokens.iter_mut().find(|(kind, text)| *kind != Kind::Space && !matches!(*text, "-" | "+"));
    match first {
        Some((Kind::Word, text)) if *text == "generation" => *text = "with",
        Some((Kind::Word, text)) if *text == "endgeneration" => *text = "endwith",
        _ => {}
    }
}

/// Translates `'…' % x` to `'…'|format(x)`.
fn translate_formats(tokens: &[(Kind, &str)]) -> String {
    let mut out = String::new();
    let mut i = 0;
    while let Some((kind, text)) = tokens.get(i) {
        out.push_str(text);
        i += 1;
        let next = skip_space(tokens, i);
        if *kind != Kind::Text || tokens.get(next) != Some(&(Kind::Other, "%")) {
            continue;
        }
        let from = skip_space(tokens, next + 1);
        let to = operand(tokens, from);
        let inner = translate_formats(&tokens[from..to]);
        let group = tokens.get(from).filter(|(kind, _)| *kind == Kind::Open && closing(tokens, from) == to);
        out.push_str(&match group {
            Some((_, "(")) => format!("|format{inner}"),
            Some((_, "{")) => format!("|format(**{inner})"),
            _ => format!("|format({inner})"),
        });
        i = to;
    }
    out
}

fn skip_space(tokens: &[(Kind, &str)], from: usize) -> usize {
    (from..tokens.len()).find(|i| tokens[*i].0 != Kind::Space).unwrap_or(tokens.len())
}

/// Returns the index after the bracket that closes the one at `from`.
fn closing(tokens: &[(Kind, &str)], from: usize) -> usize {
    let mut depth = 0_u32;
    for (i, (kind, _)) in tokens.iter().enumerate().skip(from) {
        match kind {
            Kind::Open => depth += 1,
            Kind::Close if depth <= 1 => return i + 1,
            Kind::Close => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Returns the index after the operand at `from`: a name, number, string or bracket, with its attributes, calls and
/// filters.
fn operand(tokens: &[(Kind, &str)], from: usize) -> usize {
    let mut at = from;
    while matches!(tokens.get(at), Some((Kind::Other, "-" | "+"))) {
        at = skip_space(tokens, at + 1);
    }
    at = match tokens.get(at) {
        Some((Kind::Open, _)) => closing(tokens, at),
        Some((Kind::Word | Kind::Text, _)) => at + 1,
        _ => return at,
    };
    loop {
        let next = skip_space(tokens, at);
        at = match tokens.get(next) {
            Some((Kind::Open, "(" | "[")) => closing(tokens, next),
            Some((Kind::Other, "." | "|")) => skip_space(tokens, next + 1) + 1,
            _ => return at.min(tokens.len()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::to_minijinja;

    #[test]
    fn jinja2_syntax_is_translated() {
        for (source, wanted) in [
            ("a\r\nb\rc\n", "a\nb\nc\n"),
            ("{% generation %}x{% endgeneration %}", "{% with %}x{% endwith %}"),
            ("{%- generation -%}x{%+ endgeneration -%}", "{%- with -%}x{%+ endwith -%}"),
            (
                "{{ generation }}generation {% set generation = 1 %}",
                "{{ generation }}generation {% set generation = 1 %}",
            ),
            ("{{ '%s' % x }}", "{{ '%s'|format(x) }}"),
            ("{{ '%s' % m.role|upper ~ 'b' }}", "{{ '%s'|format(m.role|upper) ~ 'b' }}"),
            ("{{ \"%d/%d\" % (a, b[1]) }}", "{{ \"%d/%d\"|format(a, b[1]) }}"),
            ("{{ '%(r)s' % {'r': x} }}", "{{ '%(r)s'|format(**{'r': x}) }}"),
            ("{%- set a = '%s' % -f(x, '}}')['k'] -%}", "{%- set a = '%s'|format(-f(x, '}}')['k']) -%}"),
            ("{{ '%s' % '%s' % x }}", "{{ '%s'|format('%s') % x }}"),
            (
                "{{ loop.index % 2 }}{% if i % 2 == 0 %}'%s' % x{% endif %}",
                "{{ loop.index % 2 }}{% if i % 2 == 0 %}'%s' % x{% endif %}",
            ),
            (
                "{# '%s' % x #}{% raw %}{{ '%s' % x }}{% endraw %}{{ '%s'%x }}",
                "{# '%s' % x #}{% raw %}{{ '%s' % x }}{% endraw %}{{ '%s'|format(x) }}",
            ),
            ("{ {{ {'a': {}}['a'] }} } {%", "{ {{ {'a': {}}['a'] }} } {%"),
            ("{{ 'it\\'s %s' % x }}", "{{ 'it\\'s %s'|format(x) }}"),
            ("{{ '", "{{ '"),
            ("{{ '%s' %", "{{ '%s'|format()"),
            ("{# never closed", "{# never closed"),
        ] {
            assert_eq!(to_minijinja(source), wanted, "{source}");
        }
    }

    #[test]
    fn no_source_panics() {
        // Every short text over the characters that matter.
        let alphabet = ["{", "%", "}", "'", "(", ")", "-", "x", " ", "#", "é"];
        for n in 0..alphabet.len().pow(5) {
            let pick = |i: u32| alphabet[n / alphabet.len().pow(i) % alphabet.len()];
            let source: String = (0..5).map(pick).collect();
            let _ = to_minijinja(&source);
            let _ = to_minijinja(&format!("{{{{{source}"));
        }
    }
}

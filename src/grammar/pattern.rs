//! Compiles a regular expression of `pattern`. As in JSON Schema, it may match anywhere unless `^` and `$` anchor it.
//! Classes such as `\d` have ASCII characters only, which every validator accepts.

use super::rules::{Rules, repeated};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Returns the sequence for the characters of a JSON string that match `regex`.
pub(super) fn compile(regex: &str, rules: &mut Rules) -> Result<String, String> {
    let parsed = ParserBuilder::new().unicode(false).utf8(false).nest_limit(50).build().parse(regex);
    let hir = parsed.map_err(|_| format!("the pattern '{regex}' is not a supported regular expression"))?;
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.clone(),
        _ => vec![hir],
    };
    let is = |part: Option<&Hir>, look: Look| part.is_some_and(|part| *part.kind() == HirKind::Look(look));
    let (starts, ends) = (is(parts.first(), Look::Start), is(parts.last(), Look::End));
    let inner = &parts[usize::from(starts)..parts.len() - usize::from(ends)];
    let any = format!("{}*", rules.common("char"));
    let mut out: Vec<String> = Vec::new();
    if !starts {
        out.push(any.clone());
    }
    for part in inner {
        out.push(sequence(part, regex)?);
    }
    if !ends {
        out.push(any);
    }
    Ok(out.join(" "))
}

fn sequence(hir: &Hir, regex: &str) -> Result<String, String> {
    let of = |parts: &[Hir], with: &str| -> Result<String, String> {
        let parts: Result<Vec<String>, String> = parts.iter().map(|part| sequence(part, regex)).collect();
        Ok(parts?.join(with))
    };
    match hir.kind() {
        HirKind::Empty => Ok("\"\"".to_owned()),
        HirKind::Literal(bytes) => {
            let text =
                std::str::from_utf8(&bytes.0).map_err(|_| format!("the pattern '{regex}' has half a character"))?;
            let escaped = serde_json::Value::from(text).to_string();
            Ok(super::rules::literal(&escaped[1..escaped.len() - 1]))
        }
        HirKind::Class(class) => characters(class, regex),
        HirKind::Repetition(repetition) => {
            let (min, max) = (repetition.min as usize, repetition.max.map(|max| max as usize));
            match max {
                Some(0) => Ok("\"\"".to_owned()),
                max => Ok(repeated(&format!("({})", sequence(&repetition.sub, regex)?), min, max)),
            }
        }
        HirKind::Capture(capture) => Ok(format!("({})", sequence(&capture.sub, regex)?)),
        HirKind::Concat(parts) => of(parts, " "),
        HirKind::Alternation(parts) => Ok(format!("({})", of(parts, " | ")?)),
        HirKind::Look(_) => {
            Err(format!("the pattern '{regex}' has an anchor that is not at its start or end, which is not supported"))
        }
    }
}

/// Returns a class as characters of a JSON string: the quote, the backslash and control characters are escaped.
fn characters(class: &Class, regex: &str) -> Result<String, String> {
    let Class::Bytes(class) = class else {
        return Err(format!("the pattern '{regex}' has a class that is not supported"));
    };
    let mut plain = String::new();
    let mut escaped = Vec::new();
    for range in class.iter() {
        for byte in range.start()..=range.end().min(0x7f) {
            match byte {
                b'"' => escaped.push(r#""\\\"""#.to_owned()),
                b'\\' => escaped.push(r#""\\\\""#.to_owned()),
                b'\n' => escaped.push(r#""\\n""#.to_owned()),
                b'\r' => escaped.push(r#""\\r""#.to_owned()),
                b'\t' => escaped.push(r#""\\t""#.to_owned()),
                0..0x20 | 0x7f => {}
                byte => plain.push_str(&format!("\\x{byte:02X}")),
            }
        }
        // Bytes of characters beyond ASCII: all of them, or none.
        if (range.start()..=range.end()).contains(&0x80) && range.end() == 0xff {
            plain.push_str("\\U00000080-\\U0010FFFF");
        }
    }
    if !plain.is_empty() {
        escaped.insert(0, format!("[{plain}]"));
    }
    match escaped.as_slice() {
        [] => Err(format!("the pattern '{regex}' has a class without a character that can be written")),
        [one] => Ok(one.clone()),
        all => Ok(format!("({})", all.join(" | "))),
    }
}

//! The rules of a grammar that is being compiled, and the rules that all JSON needs.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rules of JSON (RFC 8259): name, the names that its text uses, and the text. Space between tokens is at most one line
/// break, so that a model cannot write space without end. No escape makes half of a surrogate pair.
const COMMON: [(&str, &[&str], &str); 12] = [
    ("ws", &[], r#"(" " | "\n" [ \t]{0,20})?"#),
    (
        "char",
        &[],
        r#"[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))"#,
    ),
    ("string", &["char"], r#""\"" char* "\"""#),
    ("key", &["char"], r#""\"" char{1,64} "\"""#),
    ("integer", &[], r#""-"? ("0" | [1-9] [0-9]{0,15})"#),
    ("number", &["integer"], r#"integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?"#),
    ("boolean", &[], r#""true" | "false""#),
    ("null", &[], r#""null""#),
    ("pair", &["string", "value", "ws"], r#"string ":" ws value"#),
    ("object", &["pair", "ws"], r#""{" ws (pair ("," ws pair)* ws)? "}""#),
    ("array", &["value", "ws"], r#""[" ws (value ("," ws value)* ws)? "]""#),
    (
        "value",
        &["object", "array", "string", "number", "boolean", "null"],
        "object | array | string | number | boolean | null",
    ),
];

/// Compiles schemas within a schema.
pub(super) trait SchemaRules {
    /// The rules so far.
    fn rules(&mut self) -> &mut Rules;
    /// Returns the name of a rule for `schema`, which is at `place`, `depth` schemas within the whole one.
    fn rule(&mut self, schema: &Value, place: &str, depth: usize) -> Result<String, String>;
}

/// Rules by name.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: BTreeMap<String, String>,
    count: usize,
}

impl Rules {
    /// Returns the name of a rule of [`COMMON`], which is added with everything that it uses.
    pub(super) fn common(&mut self, name: &'static str) -> String {
        let Some((_, uses, text)) = COMMON.iter().find(|(known, ..)| *known == name) else { return name.to_owned() };
        if self.rules.insert(name.to_owned(), (*text).to_owned()).is_none() {
            uses.iter().for_each(|used| drop(self.common(used)));
        }
        name.to_owned()
    }

    /// Returns a name that no rule has.
    pub(super) fn fresh(&mut self) -> String {
        self.count += 1;
        format!("r{}", self.count)
    }

    /// Sets the text of a rule.
    pub(super) fn set(&mut self, name: &str, text: String) {
        self.rules.insert(name.to_owned(), text);
    }

    /// Adds a rule, and returns its name.
    pub(super) fn add(&mut self, text: String) -> String {
        let name = self.fresh();
        self.set(&name, text);
        name
    }

    /// Returns the grammar whose first rule is `root`.
    pub(super) fn grammar(mut self, root: String) -> String {
        self.set("root", root);
        self.rules.iter().fold(String::new(), |mut all, (name, text)| {
            let _ = writeln!(all, "{name} ::= {text}");
            all
        })
    }
}

/// Returns `text` as a literal.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns `item` repeated `min` to `max` times.
pub(super) fn repeated(item: &str, min: usize, max: Option<usize>) -> String {
    match (min, max) {
        (0, None) => format!("{item}*"),
        (_, Some(0)) => "\"\"".to_owned(),
        (1, None) => format!("{item}+"),
        (0, Some(1)) => format!("{item}?"),
        (min, None) => format!("{item}{{{min},}}"),
        (min, Some(max)) => format!("{item}{{{min},{max}}}"),
    }
}

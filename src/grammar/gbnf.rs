//! Checks a grammar before llama.cpp reads it. llama.cpp prints a grammar that it cannot read to stderr, and a deeply
//! nested or very large one would exhaust the stack or the memory.

use super::gbnf_items::{Item, Rules};
use super::gbnf_references::{check_left_recursion, check_references};
use std::collections::{HashMap, HashSet};

/// Bytes of a grammar.
const BYTES_MAX: usize = 256 << 10;
/// Groups within groups.
const DEPTH_MAX: usize = 64;
/// Characters and references after repetitions are written out.
const ELEMENTS_MAX: usize = 500_000;
/// llama.cpp's `MAX_REPETITION_THRESHOLD`.
const REPETITIONS_MAX: usize = 2000;

/// Checks `text`: its syntax, that all rules exist, one of them is `root`, and none begins with itself.
///
/// # Errors
/// The first problem, with its line.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.len() > BYTES_MAX {
        return Err(format!("the grammar has {} bytes; the limit is {BYTES_MAX}", text.len()));
    }
    let mut reader = Reader { text: text.as_bytes(), at: 0, symbols: 0, names: HashSet::new() };
    let mut rules: Rules = HashMap::new();
    let mut n_elements = 0;
    reader.space(true);
    while reader.at < reader.text.len() {
        let (name, body) = reader.rule()?;
        n_elements += body.n_elements;
        if n_elements > ELEMENTS_MAX {
            return Err(format!("the grammar has more than {ELEMENTS_MAX} elements"));
        }
        rules.insert(name, body.alternates);
    }
    if !rules.contains_key("root") {
        return Err("the grammar has no rule 'root'".to_owned());
    }
    for items in rules.values().flatten() {
        check_references(items, &rules)?;
    }
    check_left_recursion(&rules)
}

/// The alternatives of a rule or a group.
struct Body {
    alternates: Vec<Vec<Item>>,
    n_elements: usize,
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
    /// Rules so far, with those that llama.cpp makes of groups and repetitions.
    symbols: usize,
    names: HashSet<Vec<u8>>,
}

impl Reader<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn error<T>(&self, what: &str) -> Result<T, String> {
        let line = self.text[..self.at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
        Err(format!("line {line} of the grammar: {what}"))
    }

    /// Skips spaces and comments; with `newlines`, line breaks too.
    fn space(&mut self, newlines: bool) {
        loop {
            match self.peek() {
                b' ' | b'\t' => self.at += 1,
                b'\r' | b'\n' if newlines => self.at += 1,
                b'#' => {
                    while !matches!(self.peek(), 0 | b'\r' | b'\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let from = self.at;
        while self.peek().is_ascii_alphanumeric() || self.peek() == b'-' {
            self.at += 1;
        }
        if from == self.at {
            return self.error("a name of a rule (letters, digits and '-') is missing");
        }
        let name = &self.text[from..self.at];
        if self.names.insert(name.to_vec()) {
            self.symbols += 1;
        }
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn rule(&mut self) -> Result<(String, Body), String> {
        let name = self.name()?;
        self.space(false);
        if !self.text[self.at..].starts_with(b"::=") {
            return self.error(&format!("'::=' is missing after '{name}'"));
        }
        self.at += 3;
        self.space(true);
        let body = self.alternates(0)?;
        match self.peek() {
            b'\r' | b'\n' => self.space(true),
            0 if self.at >= self.text.len() => {}
            _ => return self.error("this character does not belong here"),
        }
        Ok((name, body))
    }

    fn alternates(&mut self, depth: usize) -> Result<Body, String> {
        if depth > DEPTH_MAX {
            return self.error(&format!("more than {DEPTH_MAX} groups within each other"));
        }
        let mut body = Body { alternates: Vec::new(), n_elements: 1 };
        loop {
            let (items, n) = self.sequence(depth)?;
            body.alternates.push(items);
            body.n_elements += n + 1;
            if self.peek() != b'|' {
                return Ok(body);
            }
            self.at += 1;
            self.space(true);
        }
    }

    /// Returns the items of a sequence and the number of its elements.
    fn sequence(&mut self, depth: usize) -> Result<(Vec<Item>, usize), String> {
        let mut items = Vec::new();
        let (mut total, mut last_n) = (0, 0);
        // As in llama.cpp, which limits it.
        let mut n_rules = 1;
        loop {
            match self.peek() {
                b'"' => {
                    let n = self.literal()?;
                    items.push(if n == 0 { Item::Empty } else { Item::Text });
                    (last_n, n_rules) = (n, 1);
                }
                b'[' => {
                    last_n = self.class()?;
                    n_rules = 1;
                    items.push(Item::Text);
                }
                b'.' => {
                    self.at += 1;
                    (last_n, n_rules) = (1, 1);
                    items.push(Item::Text);
                }
                b'(' => {
                    self.at += 1;
                    self.space(true);
                    let before = self.symbols;
                    self.symbols += 1;
                    let body = self.alternates(depth + 1)?;
                    n_rules = (self.symbols - before).max(1);
                    if self.peek() != b')' {
                        return self.error("')' is missing");
                    }
                    self.at += 1;
                    total += body.n_elements;
                    last_n = 1;
                    items.push(Item::Group(body.alternates));
                }
                b'*' | b'+' | b'?' | b'{' => {
                    let (min, max) = self.repetition()?;
                    let Some(item) = items.pop().filter(|_| last_n > 0) else {
                        return self.error("there is nothing before the repetition");
                    };
                    let times = max.filter(|max| *max > 0).unwrap_or(min.max(1));
                    if n_rules * times > REPETITIONS_MAX {
                        return self.error(&format!("the repetition makes more than {REPETITIONS_MAX} rules"));
                    }
                    n_rules *= times;
                    self.symbols += max.map_or(1, |max| max.saturating_sub(min));
                    total += last_n.saturating_mul(times);
                    items.push(if min == 0 { Item::Optional(Box::new(item)) } else { item });
                }
                byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                    items.push(Item::Rule(self.name()?));
                    (last_n, n_rules) = (1, 1);
                }
                b'<' | b'!' => return self.error("tokens in a grammar are not supported"),
                _ => return Ok((items, total)),
            }
            total += last_n;
            if total > ELEMENTS_MAX {
                return self.error(&format!("more than {ELEMENTS_MAX} elements"));
            }
            self.space(depth > 0);
        }
    }

    /// Reads a literal; returns its characters.
    fn literal(&mut self) -> Result<usize, String> {
        self.at += 1;
        let mut n = 0;
        while self.peek() != b'"' {
            self.character()?;
            n += 1;
        }
        self.at += 1;
        Ok(n)
    }

    /// Reads a character class; returns its elements.
    fn class(&mut self) -> Result<usize, String> {
        self.at += 1;
        if self.peek() == b'^' {
            self.at += 1;
        }
        let mut n = 0;
        while self.peek() != b']' {
            self.character()?;
            n += 1;
            if self.peek() == b'-' && self.text.get(self.at + 1) != Some(&b']') {
                self.at += 1;
                self.character()?;
                n += 1;
            }
        }
        self.at += 1;
        if n == 0 { self.error("the character class is empty") } else { Ok(n) }
    }

    fn character(&mut self) -> Result<(), String> {
        if self.at >= self.text.len() || self.peek() == 0 {
            return self.error("the end of a text or a character class is missing");
        }
        if self.peek() != b'\\' {
            self.at += 1;
            while self.text.get(self.at).is_some_and(|byte| byte & 0xC0 == 0x80) {
                self.at += 1;
            }
            return Ok(());
        }
        self.at += 1;
        let digits = match self.peek() {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            b't' | b'r' | b'n' | b'\\' | b'"' | b'[' | b']' => 0,
            _ => return self.error("unknown escape; use \\x, \\u, \\U, \\t, \\r, \\n, \\\\, \\\", \\[ or \\]"),
        };
        let hex = self.text.get(self.at + 1..self.at + 1 + digits).unwrap_or_default();
        if hex.len() != digits || !hex.iter().all(u8::is_ascii_hexdigit) {
            return self.error(&format!("{digits} hexadecimal digits are needed"));
        }
        self.at += 1 + digits;
        Ok(())
    }

    /// Reads `*`, `+`, `?` or `{m,n}`; returns the smallest and the largest number.
    fn repetition(&mut self) -> Result<(usize, Option<usize>), String> {
        self.at += 1;
        match self.text[self.at - 1] {
            b'*' => return Ok((0, None)),
            b'+' => return Ok((1, None)),
            b'?' => return Ok((0, Some(1))),
            _ => {}
        }
        self.space(false);
        let min = self.number()?;
        self.space(false);
        let mut max = Some(min);
        if self.peek() == b',' {
            self.at += 1;
            self.space(false);
            max = if self.peek().is_ascii_digit() { Some(self.number()?) } else { None };
            self.space(false);
        }
        if self.peek() != b'}' {
            return self.error("'}' is missing");
        }
        self.at += 1;
        match max {
            Some(max) if max < min => self.error("the largest number of a repetition is below the smallest"),
            _ => Ok((min, max)),
        }
    }

    fn number(&mut self) -> Result<usize, String> {
        let from = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        let digits = std::str::from_utf8(&self.text[from..self.at]).unwrap_or_default();
        match digits.parse() {
            Ok(n) if n <= REPETITIONS_MAX => Ok(n),
            Ok(_) => self.error(&format!("a repetition may have at most {REPETITIONS_MAX} times")),
            Err(_) => self.error("a number is missing or too large"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn grammars_of_llama_cpp_pass() {
        for grammar in [
            "root ::= \"yes\" | \"no\"",
            "# comment\nroot ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\nterm ::= [0-9]+ ws\nws ::= [ \\t\\n]*\r\n",
            "root ::= [^\\x00-\\x1F\"\\\\] {2,5} \"\\u00e9\" . a-b?\na-b ::= \"\" |\n  \"x\"",
            "root ::= object\nobject ::= \"{\" (object (\",\" object)*)? \"}\"",
        ] {
            assert_eq!(check(grammar), Ok(()), "{grammar}");
        }
    }

    #[test]
    fn errors_have_their_line() {
        for (grammar, expected) in [
            ("", "no rule 'root'"),
            ("a ::= \"b\"", "no rule 'root'"),
            ("root ::= b", "no rule 'b'"),
            ("root = \"a\"", "line 1 of the grammar: '::=' is missing"),
            ("root ::= \"a\"\nb ::= \"a", "line 2"),
            ("root ::= [a", "is missing"),
            ("root ::= []", "empty"),
            ("root ::= (\"a\"", "')' is missing"),
            ("root ::= *", "nothing before"),
            ("root ::= \"a\"{2,1}", "below the smallest"),
            ("root ::= \"a\"{2001}", "at most 2000"),
            ("root ::= (\"a\" | \"b\"){1000}{3}", "more than 2000 rules"),
            ("root ::= \"\\q\"", "unknown escape"),
            ("root ::= \"\\u12\"", "4 hexadecimal digits"),
            ("root ::= <[7]>", "tokens"),
            ("root ::= root \"a\"", "begin with itself"),
            ("root ::= a\na ::= b? c\nb ::= \"x\"\nc ::= a", "begin with itself"),
            ("root ::= (\"\" root)", "begin with itself"),
            ("root ::= \"a\" \u{0}", "does not belong"),
        ] {
            let error = check(grammar).expect_err(grammar);
            assert!(error.contains(expected), "{grammar}: {error}");
        }
    }

    #[test]
    fn hostile_grammars_are_refused_at_once() {
        assert!(check(&format!("root ::= {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000))).is_err());
        assert!(check(&format!("root ::= \"{}\"{{2000}}", "a".repeat(60_000))).is_err());
        let doubling: String = (0..2000).map(|i| format!("r{i} ::= r{}? r{}?\n", i + 1, i + 1)).collect();
        let error = check(&format!("root ::= r0\n{doubling}r2000 ::= \"a\"")).unwrap_err();
        assert!(error.contains("ways"), "{error}");
    }
}

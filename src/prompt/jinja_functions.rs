//! Functions and filters that Transformers adds to Jinja2 for chat templates (`_compile_jinja_template` of 4.57 and 5):
//! `raise_exception`, `strftime_now`, and a `tojson` that is Python's `json.dumps`.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

/// Adds the functions and filters to `env`.
pub(super) fn add_to(env: &mut Environment<'_>) {
    env.add_function("raise_exception", |why: String| -> Result<String, Error> { Err(invalid(why)) });
    env.add_function("strftime_now", |format: String| strftime(&format, &now()));
    env.add_filter("tojson", tojson);
}

fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// Returns the local time. If SOURCE_DATE_EPOCH is set, returns that time in UTC, so that results are reproducible.
fn now() -> Zoned {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok());
    match fixed.and_then(|seconds| Timestamp::from_second(seconds).ok()) {
        Some(time) => time.to_zoned(TimeZone::UTC),
        None => Zoned::now(),
    }
}

/// Formats a time like Python's `datetime.strftime`.
fn strftime(format: &str, time: &Zoned) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, time).map_err(|err| invalid(format!("strftime_now('{format}'): {err}")))
}

/// `tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`: Python's `json.dumps`, without the
/// HTML escapes of Jinja's own filter.
fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let mut positional = positional.0.into_iter();
    let mut option = |name: &str| -> Result<Option<Value>, Error> {
        let given = match positional.next() {
            Some(given) => Some(given),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(given.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let ascii = option("ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = option("indent")?.map(indentation).transpose()?;
    let separators = option("separators")?.map(|value| pair(&value)).transpose()?;
    let sort = option("sort_keys")?.is_some_and(|value| value.is_true());
    named.assert_all_used()?;
    let usual = || (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    let (between, colon) = separators.unwrap_or_else(usual);
    let mut out = String::new();
    Dump { ascii, indent, between, colon, sort }.write(value, 0, &mut out)?;
    Ok(out)
}

/// Returns the indentation of one level: spaces, or the given text.
fn indentation(value: Value) -> Result<String, Error> {
    const MOST: usize = 100;
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let n = value.as_i64().ok_or_else(|| invalid("tojson: indent must be a whole number or a string"))?;
    Ok(" ".repeat(usize::try_from(n).unwrap_or(0).min(MOST)))
}

fn pair(value: &Value) -> Result<(String, String), Error> {
    let texts: Vec<String> = value.try_iter()?.filter_map(|part| part.as_str().map(str::to_owned)).collect();
    match <[String; 2]>::try_from(texts) {
        Ok([between, colon]) => Ok((between, colon)),
        Err(_) => Err(invalid("tojson: separators must be two strings")),
    }
}

/// The options of `json.dumps`.
struct Dump {
    ascii: bool,
    indent: Option<String>,
    between: String,
    colon: String,
    sort: bool,
}

impl Dump {
    /// Limit on the nesting.
    const MAX_DEPTH: usize = 100;

    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > Self::MAX_DEPTH {
            return Err(invalid("tojson: the value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default(), out),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                let entry = |key: &Value, out: &mut String| {
                    self.key(key, out)?;
                    out.push_str(&self.colon);
                    self.write(&value.get_item(key)?, depth + 1, out)
                };
                self.items(['{', '}'], &keys, depth, entry, out)?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items(['[', ']'], &items, depth, |item, out| self.write(item, depth + 1, out), out)?;
            }
            kind => return Err(invalid(format!("tojson: {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn items(
        &self,
        [open, close]: [char; 2],
        items: &[Value],
        depth: usize,
        each: impl Fn(&Value, &mut String) -> Result<(), Error>,
        out: &mut String,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.between);
            }
            line(depth + 1, out);
            each(item, out)?;
        }
        if !items.is_empty() {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    /// Writes a key; like Python, converts numbers, booleans and None to strings.
    fn key(&self, key: &Value, out: &mut String) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.text(key.as_str().unwrap_or_default(), out),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                let mut text = String::new();
                self.write(key, 0, &mut text)?;
                self.text(&text, out);
            }
            kind => return Err(invalid(format!("tojson: a key cannot be a {kind}"))),
        }
        Ok(())
    }

    fn text(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if u32::from(c) < 0x20 || (self.ascii && !c.is_ascii()) => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Formats a number like Python: a float keeps its decimal point.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if float.is_nan() => "NaN".to_owned(),
        Ok(float) if float.is_infinite() => if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::strftime;
    use jiff::civil::date;
    use jiff::tz::TimeZone;

    #[test]
    fn dates_are_formatted_like_python() {
        let time = date(2024, 7, 6).at(9, 8, 7, 0).to_zoned(TimeZone::UTC).unwrap();
        for (format, text) in [
            ("%d %b %Y", "06 Jul 2024"),
            ("%Y-%m-%d", "2024-07-06"),
            ("%A, %B %d, %Y", "Saturday, July 06, 2024"),
            ("%H:%M:%S", "09:08:07"),
            ("%-d %B %Y, %I %p %j %y 100%%", "6 July 2024, 09 AM 188 24 100%"),
        ] {
            assert_eq!(strftime(format, &time).unwrap(), text);
        }
        assert!(strftime("%", &time).is_err());
    }
}

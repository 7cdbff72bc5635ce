//! Rules for numbers within bounds.

use serde_json::{Map, Value};

/// Bounds of a number; `None`: none on that side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    min: Option<f64>,
    max: Option<f64>,
    min_excluded: bool,
    max_excluded: bool,
}

/// Integers beyond this are not exact in a double, and are not generated.
const LARGEST: i64 = 1 << 53;

impl Bounds {
    /// Reads the bounds of a schema. The keywords may have the form of draft 4, where the exclusive ones are booleans.
    pub(super) fn read(schema: &Map<String, Value>) -> Result<Self, String> {
        let number = |name: &str| match schema.get(name) {
            None | Some(Value::Bool(_)) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| format!("\"{name}\" must be a number")),
        };
        let flag = |name: &str| schema.get(name) == Some(&Value::Bool(true));
        let mut bounds = Self {
            min: number("minimum")?,
            max: number("maximum")?,
            min_excluded: flag("exclusiveMinimum"),
            max_excluded: flag("exclusiveMaximum"),
        };
        if let Some(min) = number("exclusiveMinimum")?.filter(|min| bounds.min.is_none_or(|other| other <= *min)) {
            (bounds.min, bounds.min_excluded) = (Some(min), true);
        }
        if let Some(max) = number("exclusiveMaximum")?.filter(|max| bounds.max.is_none_or(|other| other >= *max)) {
            (bounds.max, bounds.max_excluded) = (Some(max), true);
        }
        Ok(bounds)
    }

    /// Whether there is no bound.
    pub(super) fn is_none(self) -> bool {
        self.min.is_none() && self.max.is_none()
    }

    /// Returns the smallest and the largest integer within the bounds.
    fn integers(self) -> (i64, i64) {
        let exact = |bound: f64| (bound.clamp(-(LARGEST as f64), LARGEST as f64)) as i64;
        let least = self.min.map_or(-LARGEST, |min| {
            let least = exact(min.ceil());
            least + i64::from(self.min_excluded && least as f64 == min)
        });
        let most = self.max.map_or(LARGEST, |max| {
            let most = exact(max.floor());
            most - i64::from(self.max_excluded && most as f64 == max)
        });
        (least, most)
    }

    /// Returns the alternatives for an integer.
    pub(super) fn integer(self) -> Result<String, String> {
        let (least, most) = self.integers();
        integers(least, most).ok_or_else(|| "no integer is within the bounds".to_owned())
    }

    /// Returns the alternatives for a number: the integers within the bounds, and fractions between two neighbouring
    /// integers that are both within the closed bounds.
    pub(super) fn number(self) -> Result<String, String> {
        let (least, most) = self.integers();
        let low = self.min.map_or(-LARGEST, |min| min.ceil().clamp(-(LARGEST as f64), LARGEST as f64) as i64);
        let high = self.max.map_or(LARGEST, |max| max.floor().clamp(-(LARGEST as f64), LARGEST as f64) as i64);
        // The fraction is never 0, so the integer itself, which may be excluded, is not among them.
        let fraction = "\".\" [0-9]{0,14} [1-9]";
        let positive = digits(low.max(0), high - 1).map(|range| format!("({range}) {fraction}"));
        let negative = digits((-high).max(0), -low - 1).map(|range| format!("\"-\" ({range}) {fraction}"));
        let all: Vec<String> = [integers(least, most), positive, negative].into_iter().flatten().collect();
        if all.is_empty() {
            return Err("no number that can be generated is within the bounds: they enclose no integer".to_owned());
        }
        Ok(all.join(" | "))
    }
}

/// Returns the alternatives for the integers from `least` to `most`; `None` if there are none.
fn integers(least: i64, most: i64) -> Option<String> {
    let negative = digits((-most).max(1), -least).map(|range| format!("\"-\" ({range})"));
    let positive = digits(least.max(0), most);
    let all: Vec<String> = [negative, positive].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join(" | "))
}

/// Returns the alternatives for the digits of the integers from `least` to `most`, which are not negative.
fn digits(least: i64, most: i64) -> Option<String> {
    if least > most || most < 0 {
        return None;
    }
    // One range for each number of digits: from 10 to 99, from 100 to 999, and so on.
    let mut all = Vec::new();
    let mut from = least.max(0);
    while from <= most {
        let width = from.to_string().len();
        let last = most.min(10_i64.pow(u32::try_from(width).unwrap_or(18)) - 1);
        all.push(same_width(from.to_string().as_bytes(), last.to_string().as_bytes()));
        from = last + 1;
    }
    Some(all.join(" | "))
}

/// Returns a sequence or a group for the numbers from `from` to `to`, which have the same number of digits.
fn same_width(from: &[u8], to: &[u8]) -> String {
    let any = |n: usize| if n == 0 { String::new() } else { format!(" [0-9]{{{n}}}") };
    let class =
        |a: u8, b: u8| if a == b { format!("\"{}\"", a as char) } else { format!("[{}-{}]", a as char, b as char) };
    let (Some((a, from)), Some((b, to))) = (from.split_first(), to.split_first()) else { return "\"\"".to_owned() };
    let rest = from.len();
    if rest == 0 {
        return class(*a, *b);
    }
    if a == b {
        return format!("{} {}", class(*a, *a), same_width(from, to));
    }
    let (mut low, mut high) = (*a, *b);
    let mut parts = Vec::new();
    if from.iter().any(|digit| *digit != b'0') {
        parts.push(format!("{} {}", class(low, low), same_width(from, &vec![b'9'; rest])));
        low += 1;
    }
    let mut last = None;
    if to.iter().any(|digit| *digit != b'9') {
        last = Some(format!("{} {}", class(high, high), same_width(&vec![b'0'; rest], to)));
        high -= 1;
    }
    if low <= high {
        parts.push(format!("{}{}", class(low, high), any(rest)));
    }
    parts.extend(last);
    format!("({})", parts.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::{digits, integers};

    #[test]
    fn ranges_are_written_by_digits() {
        assert_eq!(integers(0, 9).as_deref(), Some("[0-9]"));
        assert_eq!(integers(-1, 1).as_deref(), Some("\"-\" (\"1\") | [0-1]"));
        let expected = r#"[0-9] | ([1-9] [0-9]{1}) | "1" ([0-1] [0-9]{1} | "2" "0")"#;
        assert_eq!(digits(0, 120).as_deref(), Some(expected));
        assert_eq!(integers(5, 4), None);
    }
}

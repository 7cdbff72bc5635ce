//! `oneOf`: exactly one alternative must be valid. A grammar can only offer all of them, so they must exclude each other.

use serde_json::Value;

/// Refuses alternatives of which two could both be valid.
pub(super) fn check_disjoint(alternatives: &[Value]) -> Result<(), String> {
    for (i, one) in alternatives.iter().enumerate() {
        for (j, other) in alternatives.iter().enumerate().skip(i + 1) {
            if !exclude(one, other) {
                return Err(format!(
                    "the alternatives {i} and {j} of \"oneOf\" could both be valid; give them other types or a required \
                     member with other constants, or use \"anyOf\""
                ));
            }
        }
    }
    Ok(())
}

/// Whether no value is valid for both.
fn exclude(one: &Value, other: &Value) -> bool {
    if let (Some(one), Some(other)) = (constants(one), constants(other)) {
        return one.iter().all(|value| !other.contains(value));
    }
    if let (Some(one), Some(other)) = (types(one), types(other))
        && one.iter().all(|kind| !other.contains(kind))
    {
        return true;
    }
    // Objects that a member with constants tells apart.
    let members = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
    let (ours, theirs) = (members(one), members(other));
    let required =
        |schema: &Value, name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    ours.iter().any(|(name, member)| {
        required(one, name)
            && required(other, name)
            && theirs.get(name).is_some_and(|their| match (constants(member), constants(their)) {
                (Some(one), Some(other)) => one.iter().all(|value| !other.contains(value)),
                _ => false,
            })
    })
}

fn constants(schema: &Value) -> Option<Vec<Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value.clone()]),
        (None, Some(Value::Array(values))) => Some(values.clone()),
        _ => None,
    }
}

/// Returns the types of a schema; an integer is a number, too.
fn types(schema: &Value) -> Option<Vec<String>> {
    let name = |value: &Value| value.as_str().map(|kind| if kind == "integer" { "number" } else { kind }.to_owned());
    let of = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().map(name).collect(),
        Some(kind) => name(kind).map(|kind| vec![kind]),
        None => Some(constants(schema)?.iter().map(|value| of(value).to_owned()).collect()),
    }
}

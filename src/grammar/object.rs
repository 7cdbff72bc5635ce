//! Rules for objects.

use super::rules::{SchemaRules, literal, repeated};
use serde_json::{Map, Value};

/// Returns the text of a rule for an object with the keywords of `schema`. Required members come first, then any of the
/// optional ones, both in the order of `properties`. An object without `properties` has members of any name.
pub(super) fn object(
    compiler: &mut dyn SchemaRules,
    schema: &Map<String, Value>,
    place: &str,
    depth: usize,
) -> Result<String, String> {
    let ws = compiler.rules().common("ws");
    let empty = Map::new();
    let properties = match schema.get("properties") {
        None => &empty,
        Some(Value::Object(properties)) => properties,
        Some(_) => return Err("\"properties\" must be an object".to_owned()),
    };
    let names = match schema.get("required") {
        None => Vec::new(),
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            names.ok_or("\"required\" must be an array of names")?
        }
        // Draft 3.
        Some(_) => return Err("\"required\" must be an array of names".to_owned()),
    };
    let additional = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
    let missing: Vec<&str> = names.iter().copied().filter(|name| !properties.contains_key(*name)).collect();
    if *additional == false && !missing.is_empty() {
        return Err(format!("\"{}\" is required and not allowed", missing[0]));
    }
    let most = match schema.get("maxProperties") {
        None => None,
        Some(value) => {
            let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
            Some(n.ok_or("\"maxProperties\" must be a whole number")?)
        }
    };
    if properties.is_empty() && missing.is_empty() {
        return any_members(compiler, (additional, most), place, depth, &ws);
    }
    if most.is_some_and(|most| most < properties.len() + missing.len()) {
        return Err("\"maxProperties\" below the number of \"properties\" is not supported".to_owned());
    }
    let mut required = Vec::new();
    let mut optional = Vec::new();
    for (name, property) in properties {
        let is_required = names.contains(&name.as_str());
        if *property == false {
            match is_required {
                true => return Err(format!("\"{name}\" is required and not allowed")),
                false => continue,
            }
        }
        let value = compiler.rule(property, &format!("{place}/properties/{name}"), depth + 1)?;
        let member = compiler.rules().add(member(name, &ws, &value));
        if is_required { required.push(member) } else { optional.push(member) }
    }
    for (i, name) in missing.iter().enumerate() {
        if missing[..i].contains(name) {
            continue;
        }
        let value = compiler.rule(additional, &format!("{place}/additionalProperties"), depth + 1)?;
        required.push(compiler.rules().add(member(name, &ws, &value)));
    }
    let separator = format!("\",\" {ws}");
    // Each rule is the rest after a member: the next optional one or not, and the rest after it.
    let mut rest = "\"\"".to_owned();
    let mut first = Vec::new();
    for member in optional.iter().rev() {
        first.push(format!("{member} {rest}"));
        rest = compiler.rules().add(format!("({separator} {member})? {rest}"));
    }
    first.reverse();
    let members = match required.is_empty() {
        false => format!("{} {rest}", required.join(&format!(" {separator} "))),
        true if first.is_empty() => "\"\"".to_owned(),
        true => format!("({})?", first.join(" | ")),
    };
    Ok(format!("\"{{\" {ws} {members} {ws} \"}}\""))
}

/// An object with at most `most` members of any name, whose values have the schema `additional`.
fn any_members(
    compiler: &mut dyn SchemaRules,
    (additional, most): (&Value, Option<usize>),
    place: &str,
    depth: usize,
    ws: &str,
) -> Result<String, String> {
    if *additional == true && most.is_none() {
        return Ok(compiler.rules().common("object"));
    }
    if *additional == false || most == Some(0) {
        return Ok(format!("\"{{\" {ws} \"}}\""));
    }
    let value = compiler.rule(additional, &format!("{place}/additionalProperties"), depth + 1)?;
    let key = compiler.rules().common("key");
    let member = compiler.rules().add(format!("{key} \":\" {ws} {value}"));
    let others = repeated(&format!("(\",\" {ws} {member})"), 0, most.map(|most| most - 1));
    Ok(format!("\"{{\" {ws} ({member} {others} {ws})? \"}}\""))
}

fn member(name: &str, ws: &str, value: &str) -> String {
    format!("{} {ws} {value}", literal(&format!("{}:", Value::from(name))))
}

//! Compiles a JSON Schema to a grammar. Every text of the grammar is valid; not every valid text is in the grammar: members
//! have the order of the schema, and members that the schema only allows are left out. A keyword that the grammar cannot
//! guarantee is an error.

use super::gbnf;
use super::numbers::Bounds;
use super::object::object;
use super::one_of::check_disjoint;
use super::rules::{Rules, SchemaRules, literal, repeated};
use super::strings::string;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Keywords that describe and do not restrict, or that other keywords refer to.
const ANNOTATIONS: [&str; 18] = [
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "id",
    "$comment",
    "$anchor",
    "$defs",
    "definitions",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentEncoding",
    "contentMediaType",
    "strict",
];
/// Keywords that restrict one type.
const OF_TYPES: [(&str, &[&str]); 5] = [
    ("string", &["minLength", "maxLength", "pattern"]),
    ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
    ("integer", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
    ("array", &["items", "prefixItems", "minItems", "maxItems", "additionalItems"]),
    ("object", &["properties", "required", "additionalProperties", "maxProperties"]),
];
/// All types.
const TYPES: [&str; 6] = ["object", "array", "string", "number", "boolean", "null"];
/// Schemas within schemas.
const DEPTH_MAX: usize = 64;
/// Schemas in total: a reference is compiled once, but `allOf` can repeat one.
const SCHEMAS_MAX: usize = 10_000;

/// Returns the grammar of the texts that `schema` allows.
///
/// # Errors
/// The keyword that cannot be compiled, and where it is.
pub(crate) fn compile(schema: &Value) -> Result<String, String> {
    let (rules, root) = schema_rule(Rules::default(), schema)?;
    let grammar = rules.grammar(root);
    gbnf::check(&grammar).map_err(|why| format!("the schema is too large: {why}"))?;
    Ok(grammar)
}

/// Adds a rule for the texts that `schema` allows to `rules`; returns these and its name.
///
/// # Errors
/// The keyword that cannot be compiled, and where it is.
pub(super) fn schema_rule(rules: Rules, schema: &Value) -> Result<(Rules, String), String> {
    let mut compiler = Compiler { root: schema, rules, references: HashMap::new(), count: 0 };
    let name = compiler.rule(schema, "#", 0)?;
    Ok((compiler.rules, name))
}

/// Returns the grammar of any JSON object.
pub(crate) fn any_object() -> String {
    let mut rules = Rules::default();
    let root = rules.common("object");
    rules.grammar(root)
}

/// A schema that is being compiled.
struct Compiler<'s> {
    root: &'s Value,
    rules: Rules,
    /// The rule of each reference.
    references: HashMap<String, String>,
    count: usize,
}

impl SchemaRules for Compiler<'_> {
    fn rules(&mut self) -> &mut Rules {
        &mut self.rules
    }

    fn rule(&mut self, schema: &Value, place: &str, depth: usize) -> Result<String, String> {
        self.count += 1;
        if depth > DEPTH_MAX || self.count > SCHEMAS_MAX {
            return Err(format!("{place}: the schema is nested too deeply or too large"));
        }
        let at = |why: String| if why.starts_with('#') { why } else { format!("{place}: {why}") };
        let schema = match schema {
            Value::Bool(true) => return Ok(self.rules.common("value")),
            Value::Object(schema) => schema,
            Value::Bool(false) => return Err(at("nothing is valid (false)".to_owned())),
            _ => return Err(at("a schema must be an object or true".to_owned())),
        };
        if let Some(Value::String(target)) = schema.get("$ref") {
            self.only(schema, &["$ref"]).map_err(at)?;
            return self.reference(target, depth).map_err(at);
        }
        let text = self.text(schema, place, depth).map_err(at)?;
        Ok(self.rules.add(text))
    }
}

impl Compiler<'_> {
    /// Returns the rule of the schema that `target` names, such as `#/$defs/name`.
    fn reference(&mut self, target: &str, depth: usize) -> Result<String, String> {
        if let Some(rule) = self.references.get(target) {
            return Ok(rule.clone());
        }
        let found = self.resolve(target)?;
        let name = self.rules.fresh();
        self.references.insert(target.to_owned(), name.clone());
        let rule = self.rule(&found, target, depth + 1)?;
        self.rules.set(&name, rule);
        Ok(name)
    }

    fn resolve(&self, target: &str) -> Result<Value, String> {
        let pointer =
            target.strip_prefix('#').ok_or_else(|| format!("\"$ref\": \"{target}\" is not within the schema"))?;
        self.root.pointer(pointer).cloned().ok_or_else(|| format!("\"$ref\": there is no \"{target}\""))
    }

    /// Returns the text of a rule for `schema`.
    fn text(&mut self, schema: &Map<String, Value>, place: &str, depth: usize) -> Result<String, String> {
        if let Some(value) = schema.get("const") {
            self.only(schema, &["const", "type"])?;
            return Ok(literal(&value.to_string()));
        }
        if let Some(values) = schema.get("enum") {
            self.only(schema, &["enum", "type"])?;
            let values = values.as_array().filter(|values| !values.is_empty());
            let values = values.ok_or("\"enum\" must be an array that is not empty")?;
            return Ok(values.iter().map(|value| literal(&value.to_string())).collect::<Vec<_>>().join(" | "));
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema.get(name) {
                return self.alternatives(schema, name, alternatives, place, depth);
            }
        }
        if let Some(all) = schema.get("allOf") {
            let merged = self.merged(schema, all, depth)?;
            return self.rule(&Value::Object(merged), place, depth + 1);
        }
        let types = types(schema)?;
        let known = OF_TYPES.iter().filter(|(kind, _)| types.contains(kind)).flat_map(|(_, keywords)| keywords.iter());
        let known: Vec<&str> = known.copied().chain(["type"]).collect();
        self.only(schema, &known)?;
        let texts: Result<Vec<String>, String> =
            types.iter().map(|kind| self.of_type(kind, schema, place, depth)).collect();
        Ok(texts?.join(" | "))
    }

    fn of_type(
        &mut self,
        kind: &str,
        schema: &Map<String, Value>,
        place: &str,
        depth: usize,
    ) -> Result<String, String> {
        match kind {
            "object" => object(self, schema, place, depth),
            "array" => self.array(schema, place, depth),
            "string" => string(schema, &mut self.rules),
            "boolean" => Ok(self.rules.common("boolean")),
            "null" => Ok(self.rules.common("null")),
            "integer" | "number" => {
                let bounds = Bounds::read(schema)?;
                match kind {
                    _ if bounds.is_none() => {
                        Ok(self.rules.common(if kind == "integer" { "integer" } else { "number" }))
                    }
                    "integer" => bounds.integer(),
                    _ => bounds.number(),
                }
            }
            _ => Err(format!("there is no type \"{kind}\"")),
        }
    }

    fn array(&mut self, schema: &Map<String, Value>, place: &str, depth: usize) -> Result<String, String> {
        let count = |name: &str| match schema.get(name) {
            None => Ok(None),
            Some(value) => {
                let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
                n.map(Some).ok_or_else(|| format!("\"{name}\" must be a whole number"))
            }
        };
        let (min, max) = (count("minItems")?.unwrap_or(0), count("maxItems")?);
        // Up to draft 7, an array of `items` is what `prefixItems` is now.
        let (first, rest) = match (schema.get("prefixItems"), schema.get("items")) {
            (None, Some(Value::Array(first))) => (first.as_slice(), schema.get("additionalItems")),
            (None, rest) => (&[][..], rest),
            (Some(Value::Array(first)), rest) => (first.as_slice(), rest),
            (Some(_), _) => return Err("\"prefixItems\" must be an array".to_owned()),
        };
        let first = &first[..first.len().min(max.unwrap_or(usize::MAX))];
        let (ws, comma) = (self.rules.common("ws"), "\",\"");
        let mut items = Vec::new();
        for (i, item) in first.iter().enumerate() {
            items.push(self.rule(item, &format!("{place}/prefixItems/{i}"), depth + 1)?);
        }
        let closed = rest == Some(&Value::Bool(false));
        let more_min = min.saturating_sub(items.len());
        let more_max = max.map(|max| max - items.len());
        if max.is_some_and(|max| max < min) || closed && more_min > 0 {
            return Err("no array has so few and so many items".to_owned());
        }
        let mut inside = items.join(&format!(" {comma} {ws} "));
        // A list of fixed items needs no more.
        if !closed && more_max != Some(0) && (items.is_empty() || more_min > 0) {
            let item = self.rule(rest.unwrap_or(&Value::Bool(true)), &format!("{place}/items"), depth + 1)?;
            let next = format!("({comma} {ws} {item})");
            if items.is_empty() {
                let others = repeated(&next, more_min.saturating_sub(1), more_max.map(|max| max - 1));
                inside = format!("{item} {others}");
                if more_min == 0 {
                    return Ok(format!("\"[\" {ws} ({inside} {ws})? \"]\""));
                }
            } else {
                inside = format!("{inside} {}", repeated(&next, more_min, Some(more_min)));
            }
        }
        Ok(format!("\"[\" {ws} {inside} {ws} \"]\""))
    }

    /// Returns the text for `anyOf` or `oneOf`. Other restrictions beside it apply to every alternative.
    fn alternatives(
        &mut self,
        schema: &Map<String, Value>,
        name: &str,
        alternatives: &Value,
        place: &str,
        depth: usize,
    ) -> Result<String, String> {
        let list = alternatives.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| format!("\"{name}\" must be an array that is not empty"))?;
        let mut beside = schema.clone();
        beside.shift_remove(name);
        beside.retain(|keyword, _| !ANNOTATIONS.contains(&keyword.as_str()));
        let mut resolved = Vec::new();
        let mut rules = Vec::new();
        for (i, alternative) in list.iter().enumerate() {
            let mut alternative = alternative.clone();
            if !beside.is_empty() {
                let all = json!([beside, alternative]);
                alternative = Value::Object(self.merged(&Map::new(), &all, depth)?);
            }
            rules.push(self.rule(&alternative, &format!("{place}/{name}/{i}"), depth + 1)?);
            resolved.push(self.without_reference(alternative)?);
        }
        if name == "oneOf" {
            check_disjoint(&resolved)?;
        }
        Ok(rules.join(" | "))
    }

    /// Follows references of the schema itself.
    fn without_reference(&self, mut schema: Value) -> Result<Value, String> {
        for _ in 0..DEPTH_MAX {
            let Some(target) = schema.get("$ref").and_then(Value::as_str) else { return Ok(schema) };
            schema = self.resolve(target)?;
        }
        Err("references lead to each other".to_owned())
    }

    /// Merges the schemas of `allOf` and the keywords beside it.
    fn merged(&self, schema: &Map<String, Value>, all: &Value, depth: usize) -> Result<Map<String, Value>, String> {
        if depth > DEPTH_MAX {
            return Err("the schema is nested too deeply".to_owned());
        }
        let list = all.as_array().ok_or("\"allOf\" must be an array")?;
        let mut merged = schema.clone();
        merged.shift_remove("allOf");
        for part in list {
            let Value::Object(mut part) = self.without_reference(part.clone())? else {
                return Err("\"allOf\" may have objects only".to_owned());
            };
            if let Some(inner) = part.shift_remove("allOf") {
                part = self.merged(&part, &inner, depth + 1)?;
            }
            for (keyword, value) in part {
                merge_keyword(&mut merged, keyword, value)?;
            }
        }
        Ok(merged)
    }

    /// Refuses keywords that are neither `known` nor annotations.
    fn only(&self, schema: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
        let harmless = |name: &str, value: &Value| match name {
            "uniqueItems" | "nullable" => *value == false,
            "minProperties" => *value == 0,
            _ => ANNOTATIONS.contains(&name) || known.contains(&name),
        };
        let any_type = |name: &str| OF_TYPES.iter().any(|(_, keywords)| keywords.contains(&name));
        match schema.iter().find(|(name, value)| !harmless(name, value)) {
            None => Ok(()),
            // A keyword of another type has no effect.
            Some((name, _))
                if any_type(name)
                    && known.contains(&"type")
                    && !known.contains(&"const")
                    && !known.contains(&"enum") =>
            {
                let mut rest = schema.clone();
                rest.retain(|keyword, _| !any_type(keyword) || known.contains(&keyword.as_str()));
                if rest.len() == schema.len() { Err(unsupported(name)) } else { self.only(&rest, known) }
            }
            Some((name, _)) => Err(unsupported(name)),
        }
    }
}

fn unsupported(keyword: &str) -> String {
    format!("\"{}\" is not supported", keyword.chars().take(40).collect::<String>())
}

/// Returns the types of a schema. Without `type`, its keywords tell, or all types are valid.
fn types(schema: &Map<String, Value>) -> Result<Vec<&str>, String> {
    match schema.get("type") {
        Some(Value::String(kind)) => Ok(vec![kind]),
        Some(Value::Array(kinds)) if !kinds.is_empty() => {
            let kinds: Option<Vec<&str>> = kinds.iter().map(Value::as_str).collect();
            kinds.ok_or_else(|| "\"type\" must be a name or an array of names".to_owned())
        }
        Some(_) => Err("\"type\" must be a name or an array of names".to_owned()),
        None => {
            let has = |keywords: &[&str]| keywords.iter().any(|keyword| schema.contains_key(*keyword));
            let told: Vec<&str> = OF_TYPES
                .iter()
                .filter(|(kind, keywords)| *kind != "integer" && has(keywords))
                .map(|(kind, _)| *kind)
                .collect();
            Ok(if told.is_empty() { TYPES.to_vec() } else { told })
        }
    }
}

/// Adds a keyword of one schema to another that must hold, too.
fn merge_keyword(merged: &mut Map<String, Value>, keyword: String, value: Value) -> Result<(), String> {
    match (keyword.as_str(), merged.get_mut(&keyword)) {
        (name, _) if ANNOTATIONS.contains(&name) && name != "format" => {}
        (_, None) => drop(merged.insert(keyword, value)),
        (_, Some(same)) if *same == value => {}
        ("properties", Some(Value::Object(all))) => {
            for (name, property) in value.as_object().into_iter().flatten() {
                match all.get(name) {
                    Some(other) if other != property => {
                        let both = json!({"allOf": [other, property]});
                        all.insert(name.clone(), both);
                    }
                    _ => drop(all.insert(name.clone(), property.clone())),
                }
            }
        }
        ("required", Some(Value::Array(all))) => all.extend(value.as_array().into_iter().flatten().cloned()),
        ("additionalProperties", Some(other)) if *other == false || value == false => *other = false.into(),
        (name, _) => return Err(format!("\"{name}\" is given twice for the same value, which is not supported")),
    }
    Ok(())
}

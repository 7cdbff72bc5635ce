//! `models`: the Tulu family as a table, with the size of each type and what is here already.

use crate::error::{Exit, Failure};
use crate::model::hub::Settings;
use crate::model::made::Made;
use crate::model::registry::{self, Entry};
use crate::table::{self, Align};
use serde_json::{Value, json};
use std::collections::HashMap;
use tulu_quantize::{Ftype, forecast};

/// List the Tulu family: names, parameters, licence, weights, published scores, sizes, and what is here
///
/// A name of the first column is understood wherever a MODEL or SOURCE is asked for. Sizes are those of the tensors, in
/// powers of 1000; a file is up to a megabyte larger. The averages of Tulu 2 and Tulu 2.5 come from different tests.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tulu-quant models\n  tulu-quant models 13b dpo\n  tulu-quant models uf-mean --json"
)]
pub(crate) struct Args {
    /// Only models whose name, kind or size has all of these words in it
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Print an array of objects with every score and the size of every type
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
}

/// Types that the table has a column for.
const SHOWN: [Ftype; 3] = [Ftype::Q4_K_M, Ftype::Q5_K_M, Ftype::Q8_0];

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let wanted = |entry: &Entry| {
        let text = format!("{} {} {}", entry.name, entry.kind.name(), entry.size).to_lowercase();
        args.words.iter().all(|word| text.contains(&word.to_lowercase()))
    };
    let entries: Vec<Entry> = registry::all().filter(wanted).collect();
    if entries.is_empty() {
        let typed = args.words.join("-");
        let near = registry::nearest(&typed).map_or(String::new(), |near| format!("did you mean {near}? "));
        let fix = format!("{near}`tulu-quant models` without words lists all");
        return Err(Failure::input("NOT_FOUND", "no model of the family has that in its name", fix).at(typed));
    }
    let settings = Settings::from_env()?;
    let text = if args.json {
        let all = entries.iter().map(|entry| described(entry, &settings)).collect::<Result<Vec<_>, _>>()?;
        Value::Array(all).to_string() + "\n"
    } else {
        shown(&entries, &settings)?
    };
    crate::stdout(&text)
}

/// What of a model is here: types in our cache, and the checkpoint in the shared one.
fn here(entry: &Entry, settings: &Settings) -> Result<(Vec<Ftype>, Option<String>), Failure> {
    let repo = entry.repo(None);
    let folder = settings.cache.complete(&repo).map(|folder| folder.display().to_string());
    Ok((Made::of(&repo)?.types(), folder))
}

fn size(entry: &Entry, ftype: Ftype) -> Result<u64, Failure> {
    forecast::tensor_bytes(entry.shape, ftype)
        .map_err(|err| Failure::engine("FORECAST", err.to_string(), "report this"))
}

fn shown(entries: &[Entry], settings: &Settings) -> Result<String, Failure> {
    let mut heading: Vec<String> =
        ["name", "kind", "weights", "context", "licence", "files", "average"].map(String::from).into();
    heading.extend(SHOWN.map(|ftype| ftype.to_string()));
    heading.push("here".to_owned());
    let mut align = vec![Align::Left, Align::Left, Align::Right, Align::Right, Align::Left, Align::Left, Align::Right];
    align.extend([Align::Right; SHOWN.len()]);
    align.push(Align::Left);
    let (mut rows, mut sizes) = (vec![heading], HashMap::new());
    for entry in entries {
        let average = entry.scores.and_then(|s| s.values.iter().find(|(name, _)| *name == "average"));
        let mut row = vec![
            entry.name.to_owned(),
            entry.kind.name().to_owned(),
            table::params(forecast::params(entry.shape)),
            entry.n_ctx.map_or("?".to_owned(), |n| n.to_string()),
            entry.licence.split(';').next().unwrap_or_default().to_owned(),
            entry.weights.name().to_owned(),
            average.map_or("-".to_owned(), |(_, value)| format!("{value:.1}")),
        ];
        for ftype in SHOWN {
            let cell = if entry.kind.refused().is_some() {
                "-".to_owned()
            } else {
                let known = sizes.entry((std::ptr::from_ref(entry.shape), ftype.id()));
                table::bytes(match known {
                    std::collections::hash_map::Entry::Occupied(known) => *known.get(),
                    std::collections::hash_map::Entry::Vacant(empty) => *empty.insert(size(entry, ftype)?),
                })
            };
            row.push(cell);
        }
        let (types, folder) = here(entry, settings)?;
        let mut words: Vec<String> = types.iter().map(Ftype::to_string).collect();
        words.extend(folder.map(|_| "checkpoint".to_owned()));
        row.push(match entry.kind.refused() {
            Some(_) if words.is_empty() => "cannot be converted".to_owned(),
            _ => words.join(" "),
        });
        rows.push(row);
    }
    Ok(table::render(&align, &rows))
}

fn described(entry: &Entry, settings: &Settings) -> Result<Value, Failure> {
    let (types, folder) = here(entry, settings)?;
    let mut sizes = serde_json::Map::new();
    if entry.kind.refused().is_none() {
        for (ftype, name) in Ftype::ALL {
            sizes.insert(name.to_owned(), json!(size(entry, ftype)?));
        }
    }
    let scores = entry.scores.map(|scores| {
        // what was published has one or two decimals; as an f64 the f32 would show more
        let round = |value: f32| (f64::from(value) * 100.0).round() / 100.0;
        let values: serde_json::Map<String, Value> =
            scores.values.iter().map(|(name, value)| ((*name).to_owned(), json!(round(*value)))).collect();
        json!({"source": scores.source, "values": values})
    });
    Ok(json!({
        "name": entry.name, "repository": entry.repo(None).id(), "kind": entry.kind.name(), "size": entry.size,
        "parameters": forecast::params(entry.shape), "context": entry.n_ctx, "licence": entry.licence,
        "files": entry.weights.name(), "scores": scores, "bytes": sizes,
        "cannot_be_converted": entry.kind.refused().map(|(what, _)| what),
        "here": types.iter().map(Ftype::to_string).collect::<Vec<_>>(), "checkpoint": folder,
    }))
}

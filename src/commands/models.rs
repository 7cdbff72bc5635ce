//! `models`: the table of the Tulu family. `--here` and `--remove` are in `models/on_disk.rs`.

mod on_disk;

use crate::error::{Code, Exit, Failure};
use crate::model::converted_cache::ConvertedCache;
use crate::model::hub::{HubCache, HubSettings};
use crate::model::registry::{self, Entry};
use crate::model::stored_models::{self, StoredModel};
use crate::sanitize::one_line;
use crate::table::{self, Align};
use serde_json::{Value, json};
use std::collections::HashMap;
use tulu_quantize::{Ftype, size_estimate};

/// List the Tulu family and the models on this machine: names, parameters, licences, published scores, sizes
///
/// Names in the first column work wherever MODEL or SOURCE is accepted. Without words, the table is short and lacks models
/// that cannot be converted; with words, --all or --json it has all columns and models. Sizes are those of the tensors, in
/// powers of 1000; a file is larger by its vocabulary, up to 8 MB. The averages of Tulu 2, 2.5 and 3 come from different tests.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tulu-quant models\n  tulu-quant models 13b dpo\n  tulu-quant models uf-mean --json\n  \
    tulu-quant models --here\n  tulu-quant models --remove tulu-2-7b:Q8_0"
)]
pub(crate) struct Args {
    /// List only models whose name, kind or size contains all of these words
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// List all models and all columns, also models that cannot be converted
    #[arg(long, env = "TULU_QUANT_ALL", value_parser = clap::builder::FalseyValueParser::new())]
    all: bool,
    /// List everything on disk with its size: GGUF files in the program's cache, checkpoints in the Hugging Face cache
    #[arg(long, env = "TULU_QUANT_HERE", value_parser = clap::builder::FalseyValueParser::new())]
    here: bool,
    /// Remove the GGUF files of a model, or one type of it, from the program's cache, after a question
    #[arg(long, value_name = "NAME[:TYPE]", conflicts_with = "words")]
    remove: Option<String>,
    /// Remove without asking
    #[arg(short, long, requires = "remove")]
    yes: bool,
    /// Print an array of objects with every score and the size of every type
    #[arg(long, env = "TULU_QUANT_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    json: bool,
}

/// The types that have a column of their own.
const SHOWN: [Ftype; 3] = [Ftype::Q4_K_M, Ftype::Q5_K_M, Ftype::Q8_0];

/// Minimum width of the column of names.
const MIN_NAME_WIDTH: usize = 20;

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    if let Some(name) = &args.remove {
        return on_disk::remove(name, args.yes);
    }
    if args.here {
        return on_disk::list(&args.words, args.json);
    }
    let everything = args.all || args.json || !args.words.is_empty();
    let wanted = |entry: &Entry| {
        let text = format!("{} {} {} {}", entry.name, entry.repository, entry.kind.name(), entry.size).to_lowercase();
        let all = args.words.iter().all(|word| text.contains(&word.to_lowercase()));
        all && (everything || entry.kind.unsupported().is_none())
    };
    let entries: Vec<Entry> = registry::all().filter(wanted).collect();
    if entries.is_empty() {
        let typed = args.words.join("-");
        let near = registry::nearest(&typed).map_or(String::new(), |near| format!("did you mean {near}? "));
        let fix = format!("{near}`tulu-quant models` without words lists all");
        return Err(Failure::input(Code::NotFound, "no Tulu model matches these words", fix).at(typed));
    }
    let cache = HubSettings::cache_from_env()?;
    if args.json {
        let all = entries.iter().map(|entry| described(entry, &cache)).collect::<Result<Vec<_>, _>>()?;
        return crate::stdout::print(&(Value::Array(all).to_string() + "\n"));
    }
    let columns = if everything { all_columns(&entries, &cache)? } else { few_columns(&entries, &cache)? };
    let mut text = fitted(columns, console::Term::stdout().size_checked().map(|(_, width)| width.into()));
    if args.words.is_empty() {
        text += &others(&stored_models::all(&cache)?);
    }
    crate::stdout::print(&text)
}

/// Makes the table of models on disk that are not of the family.
fn others(all: &[StoredModel]) -> String {
    let mut names: Vec<(&str, Vec<String>)> = Vec::new();
    for kept in all.iter().filter(|kept| registry::find(&kept.name).is_none()) {
        match names.last_mut().filter(|(name, _)| *name == kept.name) {
            Some((_, what)) => what.push(kept.description()),
            None => names.push((&kept.name, vec![kept.description()])),
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let mut rows = vec![["other models", "here"].map(String::from).to_vec()];
    rows.extend(names.into_iter().map(|(name, what)| vec![one_line(name), what.join(" ")]));
    format!("\n{}", table::render(&[Align::Left, Align::Left], &rows))
}

/// Returns the forms of a model on disk: the types in our cache, and the folder of its checkpoint.
fn here(entry: &Entry, cache: &HubCache) -> Result<(Vec<Ftype>, Option<String>), Failure> {
    let repo = entry.repo(None);
    let folder = cache.complete_snapshot(&repo)?.map(|folder| folder.display().to_string());
    Ok((ConvertedCache::for_repo(&repo)?.types()?, folder))
}

/// Returns the result of [`here`] as text.
fn here_text(entry: &Entry, cache: &HubCache) -> Result<String, Failure> {
    let (types, folder) = here(entry, cache)?;
    let mut words: Vec<String> = types.iter().map(Ftype::to_string).collect();
    words.extend(folder.map(|_| "checkpoint".to_owned()));
    Ok(match entry.kind.unsupported() {
        Some(_) if words.is_empty() => "cannot be converted".to_owned(),
        _ => words.join(" "),
    })
}

fn size(entry: &Entry, ftype: Ftype) -> Result<u64, Failure> {
    size_estimate::tensor_bytes(entry.config, ftype)
        .map_err(|err| Failure::engine(Code::Forecast, err.to_string(), "report this"))
}

/// A column: heading and cells, and their alignment. On a narrow terminal, the column with the highest `spare` is
/// dropped first; 0 is never dropped.
struct Column {
    cells: Vec<String>,
    align: Align,
    spare: u8,
}

impl Column {
    fn new(heading: &str, align: Align, spare: u8, cells: impl Iterator<Item = String>) -> Self {
        Self { cells: std::iter::once(heading.to_owned()).chain(cells).collect(), align, spare }
    }

    fn width(&self) -> usize {
        self.cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// Returns the column of sizes of one type. Models with the same configuration have the same size.
fn sizes(entries: &[Entry], ftype: Ftype, spare: u8) -> Result<Column, Failure> {
    let mut known = HashMap::new();
    let mut cells = Vec::new();
    for entry in entries {
        if entry.kind.unsupported().is_some() {
            cells.push("-".to_owned());
            continue;
        }
        let shape = std::ptr::from_ref(entry.config);
        let bytes = match known.get(&shape) {
            Some(bytes) => *bytes,
            None => size(entry, ftype)?,
        };
        known.insert(shape, bytes);
        cells.push(table::bytes(bytes));
    }
    Ok(Column::new(&ftype.to_string(), Align::Right, spare, cells.into_iter()))
}

fn few_columns(entries: &[Entry], cache: &HubCache) -> Result<Vec<Column>, Failure> {
    let here = entries.iter().map(|entry| here_text(entry, cache)).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![
        Column::new("name", Align::Left, 0, entries.iter().map(|entry| entry.name.to_owned())),
        Column::new("kind", Align::Left, 2, entries.iter().map(|entry| entry.kind.name().to_owned())),
        Column::new("weights", Align::Right, 1, entries.iter().map(|e| table::params(size_estimate::params(e.config)))),
        sizes(entries, Ftype::Q4_K_M, 0)?,
        Column::new("here", Align::Left, 0, here.into_iter()),
    ])
}

fn all_columns(entries: &[Entry], cache: &HubCache) -> Result<Vec<Column>, Failure> {
    let average = |entry: &Entry| {
        let found = entry.scores.and_then(|s| s.values.iter().find(|(name, _)| *name == "average"));
        found.map_or("-".to_owned(), |(_, value)| format!("{value:.1}"))
    };
    let mut columns = few_columns(entries, cache)?;
    let here = columns.pop();
    columns.truncate(3);
    let licence = |entry: &Entry| entry.licence.split(';').next().unwrap_or_default().to_owned();
    columns.extend([
        Column::new("context", Align::Right, 5, entries.iter().map(|e| e.n_ctx.map_or("?".into(), |n| n.to_string()))),
        Column::new("licence", Align::Left, 7, entries.iter().map(licence)),
        Column::new("files", Align::Left, 6, entries.iter().map(|entry| entry.weights.name().to_owned())),
        Column::new("average", Align::Right, 4, entries.iter().map(average)),
    ]);
    for (ftype, spare) in SHOWN.into_iter().zip([0, 4, 3]) {
        columns.push(sizes(entries, ftype, spare)?);
    }
    columns.extend(here);
    Ok(columns)
}

/// Renders the table for a terminal of `width` columns: drops columns with the highest `spare`, then shortens names.
fn fitted(mut columns: Vec<Column>, width: Option<usize>) -> String {
    let total =
        |columns: &[Column]| columns.iter().map(Column::width).sum::<usize>() + 2 * columns.len().saturating_sub(1);
    let width = width.unwrap_or(usize::MAX);
    while total(&columns) > width {
        let most = columns.iter().enumerate().filter(|(_, c)| c.spare > 0).max_by_key(|(_, c)| c.spare);
        let Some((at, _)) = most else { break };
        columns.remove(at);
    }
    let over = total(&columns).saturating_sub(width);
    if let Some(names) = columns.first_mut().filter(|_| over > 0) {
        let room = names.width().saturating_sub(over).max(MIN_NAME_WIDTH);
        for name in &mut names.cells {
            let chars: Vec<char> = name.chars().collect();
            if chars.len() > room {
                // keep both ends of the name, because names differ there
                let (head, tail) = ((room - 1).div_ceil(2), (room - 1) / 2);
                *name = chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect();
            }
        }
    }
    let align: Vec<Align> = columns.iter().map(|column| column.align).collect();
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let row = |i: usize| columns.iter().map(|column| column.cells.get(i).cloned().unwrap_or_default()).collect();
    table::render(&align, &(0..rows).map(row).collect::<Vec<_>>())
}

fn described(entry: &Entry, cache: &HubCache) -> Result<Value, Failure> {
    let (types, folder) = here(entry, cache)?;
    let mut sizes = serde_json::Map::new();
    if entry.kind.unsupported().is_none() {
        for (ftype, name) in Ftype::ALL {
            sizes.insert(name.to_owned(), json!(size(entry, ftype)?));
        }
    }
    let scores = entry.scores.map(|scores| {
        // published scores have one or two decimals; an f32 as f64 would show more
        let round = |value: f32| (f64::from(value) * 100.0).round() / 100.0;
        let values: serde_json::Map<String, Value> =
            scores.values.iter().map(|(name, value)| ((*name).to_owned(), json!(round(*value)))).collect();
        json!({"source": scores.source, "values": values})
    });
    Ok(json!({
        "name": entry.name, "repository": entry.repo(None).id(), "kind": entry.kind.name(), "size": entry.size,
        "parameters": size_estimate::params(entry.config), "context": entry.n_ctx, "licence": entry.licence,
        "files": entry.weights.name(), "scores": scores, "bytes": sizes,
        "cannot_be_converted": entry.kind.unsupported().map(|(what, _)| what),
        "here": types.iter().map(Ftype::to_string).collect::<Vec<_>>(), "checkpoint": folder,
    }))
}

//! `models --here` and `models --remove`: lists models on disk, and removes GGUF files.

use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::eval_record::EvalRecord;
use crate::model::hub::{HubCache, HubSettings};
use crate::model::model_ref::parse_type;
use crate::model::stored_models::{self, StoredModel};
use crate::model::{app_dirs, confirm, stopped};
use crate::sanitize::{one_line, shown};
use crate::stderr;
use crate::table::{self, Align};
use serde_json::{Value, json};
use tulu_quantize::gguf::Gguf;

/// Lists everything on disk.
pub(super) fn list(words: &[String], as_json: bool) -> Result<Exit, Failure> {
    let shared = HubSettings::cache_from_env()?;
    let all = stored_models::all(&shared)?;
    let wanted = |kept: &&StoredModel| {
        let text = format!("{} {}", kept.name, kept.description()).to_lowercase();
        words.iter().all(|word| text.contains(&word.to_lowercase()))
    };
    let all: Vec<&StoredModel> = all.iter().filter(wanted).collect();
    let text = if as_json {
        Value::Array(all.iter().map(|kept| described(kept)).collect()).to_string() + "\n"
    } else {
        table(&all, &shared)?
    };
    crate::stdout::print(&text)
}

fn described(kept: &StoredModel) -> Value {
    json!({
        "name": kept.name, "type": kept.ftype.map(|ftype| ftype.to_string()), "ready_gguf": kept.ready, "unfinished": kept.unfinished,
        "eval": record(kept).map(|record| record.json()), "bytes": kept.bytes, "path": kept.path.display().to_string(), "removable": kept.is_removable(),
    })
}

/// Returns the results of an evaluation that are stored in the file.
fn record(kept: &StoredModel) -> Option<EvalRecord> {
    let is_file = kept.ftype.is_some() && !kept.unfinished;
    is_file.then(|| Gguf::open(&kept.path).ok()).flatten().and_then(|file| EvalRecord::of(&file))
}

fn table(all: &[&StoredModel], shared: &HubCache) -> Result<String, Failure> {
    let mut rows = vec![["name", "what", "size"].map(String::from).to_vec()];
    rows.extend(all.iter().map(|kept| vec![one_line(&kept.name), kept.description(), table::bytes(kept.bytes)]));
    let mut align = vec![Align::Left, Align::Left, Align::Right];
    let records: Vec<Option<EvalRecord>> = all.iter().map(|kept| record(kept)).collect();
    if records.iter().any(Option::is_some) {
        align.push(Align::Left);
        let cells = records.iter().map(|record| record.as_ref().map_or_else(String::new, EvalRecord::line));
        rows.iter_mut()
            .zip(std::iter::once("evaluated".to_owned()).chain(cells))
            .for_each(|(row, cell)| row.push(cell));
    }
    let sum = |ours: bool| {
        let sizes = all.iter().filter(|kept| kept.is_removable() == ours).map(|kept| kept.bytes);
        table::bytes(sizes.fold(0, u64::saturating_add))
    };
    let mut out = if all.is_empty() { "nothing is here\n".to_owned() } else { table::render(&align, &rows) };
    out += &format!("\n{} of GGUF files in {}\n", sum(true), shown(&app_dirs::cache_dir()?));
    out += &format!("{} of checkpoints in {}, which huggingface_hub shares\n", sum(false), shown(&shared.0));
    Ok(out)
}

/// Removes the GGUF files of one model, or one type of it, from the program's cache: lists them and asks first.
pub(super) fn remove(typed: &str, yes: bool) -> Result<Exit, Failure> {
    let (name, ftype) = match typed.rsplit_once(':') {
        Some((name, ftype)) => (name, Some(parse_type(ftype)?)),
        None => (typed, None),
    };
    let all = stored_models::all(&HubSettings::cache_from_env()?)?;
    let named: Vec<&StoredModel> = all.iter().filter(|kept| kept.is_named(name)).collect();
    let ours = |kept: &&&StoredModel| kept.is_removable() && ftype.is_none_or(|ftype| kept.ftype == Some(ftype));
    let going: Vec<&StoredModel> = named.iter().filter(ours).copied().collect();
    if going.is_empty() {
        let (what, fix) = match named.iter().find(|kept| !kept.is_removable()) {
            Some(kept) => {
                let what = format!(
                    "is only on disk as {}, in the Hugging Face cache",
                    if kept.ready { "GGUF files" } else { "a checkpoint" }
                );
                (what, format!("remove it with `hf cache rm`, or the folder {}", kept.path.display()))
            }
            None => (
                "no GGUF file in the cache has this name".to_owned(),
                "`tulu-quant models --here` lists those that are".to_owned(),
            ),
        };
        return Err(Failure::input(Code::NotFound, what, fix).at(typed));
    }
    let mut text = "removes\n".to_owned();
    for kept in &going {
        text += &format!("  {:<10} {:>9}  {}\n", kept.description(), table::bytes(kept.bytes), shown(&kept.path));
    }
    for kept in named.iter().filter(|kept| !kept.is_removable()) {
        text += &format!("  its checkpoint, {}, stays: {}\n", table::bytes(kept.bytes), shown(&kept.path));
    }
    stderr::block(&text);
    let interrupt = Interrupt::install()?;
    if !yes {
        let declined = || Failure::input(Code::Declined, "nothing was removed", "answer y, or give --yes").at(typed);
        // a removed file cannot be restored, so nothing is removed without a terminal to ask on
        let terminal = confirm::prompt_terminal().ok_or_else(declined)?;
        stderr::block("Remove them? [y/N] ");
        let check_cancelled = || interrupt.asked().map_or(Ok(()), |exit| Err(stopped(exit)));
        match confirm::read_answer(terminal, &check_cancelled)?
            .as_deref()
            .map(|text| text.trim().to_lowercase())
            .as_deref()
        {
            Some("y" | "yes") => {}
            _ => return Err(declined()),
        }
    }
    for kept in &going {
        stored_models::remove(kept, &interrupt)?;
    }
    let freed = going.iter().map(|kept| kept.bytes).fold(0, u64::saturating_add);
    stderr::line(&format!("{} freed", table::bytes(freed)));
    Ok(Exit::Done)
}

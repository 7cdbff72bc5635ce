//! The commands that read and write files: `/save`, `/load`, `/read`, `/export`.

use super::hint::first_line;
use crate::chat::saved::Saved;
use crate::chat::saved_files::{self, kv_path};
use crate::chat::session::{Next, Session};
use crate::chat::typed_path;
use crate::chat::unsaved;
use crate::chat::{Conversation, Parameters, export as exported};
use crate::error::{Code, Failure};
use crate::sanitize::{one_line, shown};
use crate::stderr::dim as note;
use crate::table::{self, count};
use std::io::ErrorKind;
use std::path::Path;

/// Limit on the size of a file for `/read`. A larger file does not fit into any context.
const MAX_READ: u64 = 4 << 20;

/// Splits a leading `-f` from the rest of the argument.
fn forced(text: &str) -> (bool, &str) {
    match text.strip_prefix("-f") {
        Some("") => (true, ""),
        Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest.trim_start()),
        _ => (false, text),
    }
}

/// Returns an error if `path` exists, unless `force` is set.
fn free(path: &Path, force: bool) -> Result<(), Failure> {
    // An error other than a missing file counts as existing: a path that cannot be accessed may exist.
    match std::fs::symlink_metadata(path) {
        _ if force => Ok(()),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
        Err(err) => Err(Failure::io(path, "cannot check whether it exists", &err)),
        Ok(_) => {
            let fix = "give another name, or -f before it to replace the file";
            Err(Failure::input(Code::Exists, "already exists", fix).at(path))
        }
    }
}

/// `/save [-f] [NAME|FILE]`
pub(super) fn save(session: &mut Session<'_, '_>, text: &str) -> Result<Next, Failure> {
    let (force, name) = forced(text);
    if session.chat.messages.is_empty() {
        note("there is nothing to save yet");
        return Ok(Next::Prompt);
    }
    let path = match (name, &session.file) {
        ("", None) => {
            note("give it a name: /save NAME, or /save FILE.json");
            return Ok(Next::Prompt);
        }
        ("", Some(file)) => file.clone(),
        (name, _) => saved_files::path_of(name)?,
    };
    if path.extension().is_some_and(|ending| ending == "kv") {
        let what = "is the name of a KV cache file, which is written next to the conversation";
        return Err(Failure::input(Code::Exists, what, "end the name in .json").at(&path));
    }
    if unsaved::is_last(&path) {
        let what = "is reserved for the conversation that was left without /save";
        return Err(Failure::input(Code::Exists, what, "give another name").at(&path));
    }
    free(&path, force || session.file.as_ref() == Some(&path))?;
    match session.chat.save(&path)? {
        Some(Ok(bytes)) => {
            note(&format!(
                "saved to {}; its KV cache, {} beside it, may be deleted",
                shown(&path),
                table::bytes(bytes)
            ));
        }
        Some(Err(failure)) => {
            note(&format!("saved to {}, without its KV cache: {}", shown(&path), one_line(&failure.what)));
        }
        None => note(&format!("saved to {}", shown(&path))),
    }
    session.file = Some(path);
    session.unsaved = false;
    Ok(Next::Prompt)
}

/// `/load [NAME|FILE]`
pub(super) fn load(session: &mut Session<'_, '_>, text: &str) -> Result<Next, Failure> {
    if text.is_empty() {
        note(&list()?);
        return Ok(Next::Prompt);
    }
    let path = saved_files::path_of(text)?;
    // If no saved conversation has this name, the list of names helps more than the path.
    let is_name = saved_files::folder().is_ok_and(|folder| path.parent() == Some(folder.as_path()));
    let names = if is_name { saved_files::names()? } else { Vec::new() };
    if is_name && !names.iter().any(|name| path.file_stem().is_some_and(|stem| *stem == **name)) {
        let there = if names.is_empty() { "none yet".to_owned() } else { one_line(&names.join(", ")) };
        note(&format!("there is no saved conversation '{}'; saved ones: {there}", one_line(text)));
        return Ok(Next::Prompt);
    }
    let saved = Saved::read(&path)?;
    let parameters = saved.parameters.clone();
    restore(session.chat, saved, parameters)?;
    session.file = Some(path).filter(|path| !unsaved::is_last(path));
    session.unsaved = false;
    session.attached.clear();
    Ok(Next::Prompt)
}

/// Resumes `saved` with `parameters`, and prints its last turn.
pub(in crate::chat) fn restore(
    chat: &mut Conversation<'_>,
    saved: Saved,
    parameters: Parameters,
) -> Result<(), Failure> {
    let (title, turns) = (saved.title.clone(), saved.turns());
    let restored = chat.restore(saved, parameters)?;
    restored.notes.iter().for_each(|text| note(&one_line(text)));
    let cache = match restored.cached {
        Some(Ok(1)) => "1 token is in its KV cache".to_owned(),
        Some(Ok(tokens)) => format!("{tokens} tokens are in its KV cache"),
        Some(Err(why)) => format!("its KV cache is not used ({}); it will be processed again", one_line(&why)),
        None => "it will be processed again".to_owned(),
    };
    note(&format!("\"{}\", {}; {cache}", one_line(&title), count(turns, "turn", "turns")));
    if let [.., question, answer] = chat.messages.as_slice()
        && turns > 0
    {
        note(&format!(">>> {}\n{}", first_line(&question.content), answer.content));
    }
    Ok(())
}

/// Lists the saved conversations: names, turns, sizes of KV cache files, titles.
fn list() -> Result<String, Failure> {
    let names = saved_files::names()?;
    if names.is_empty() {
        return Ok(format!("nothing is saved in {}", shown(&saved_files::folder()?)));
    }
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let rows = names.iter().map(|name| {
        let about = saved_files::path_of(name).and_then(|path| {
            let kept = kv_path(&path).metadata().map_or(0, |file| file.len());
            let saved = Saved::read(&path)?;
            let turns = count(saved.turns(), "turn ", "turns");
            Ok(format!("{turns:>9}  {:>9}  {}", table::bytes(kept), saved.title))
        });
        let name = one_line(name);
        format!("{name:<width$}  {}", about.unwrap_or_else(|failure| one_line(&failure.what)))
    });
    Ok(rows.collect::<Vec<_>>().join("\n"))
}

/// `/read FILE`
pub(super) fn read(session: &mut Session<'_, '_>, text: &str) -> Result<Next, Failure> {
    if text.is_empty() {
        note("name the file: /read FILE");
        return Ok(Next::Prompt);
    }
    if text == "-" {
        let files = std::mem::take(&mut session.attached).len();
        note(&match files {
            0 => "there are no attached files".to_owned(),
            n => format!("{} removed", count(n, "file was", "files were")),
        });
        return Ok(Next::Prompt);
    }
    let path = typed_path::parse(text);
    let about = std::fs::metadata(&path).map_err(|err| Failure::io(&path, "cannot open", &err))?;
    if !about.is_file() || about.len() > MAX_READ {
        let what = format!("is not a file of at most {}", table::bytes(MAX_READ));
        return Err(Failure::input(Code::Read, what, "give a text file").at(&path));
    }
    let bytes = std::fs::read(&path).map_err(|err| Failure::io(&path, "cannot read", &err))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::input(Code::Read, "is not UTF-8 text", "convert it to UTF-8").at(&path))?;
    let lines = text.lines().count();
    note(&format!("{}: {} before your next message", shown(&path), count(lines, "line goes", "lines go")));
    session.attached.push((path, text.trim_end().to_owned()));
    Ok(Next::Prompt)
}

/// `/export [-f] FILE`
pub(super) fn export(session: &mut Session<'_, '_>, text: &str) -> Result<Next, Failure> {
    let (force, name) = forced(text);
    if name.is_empty() {
        note("name the file: /export FILE.md, FILE.json or FILE.jsonl");
        return Ok(Next::Prompt);
    }
    let path = typed_path::parse(name);
    free(&path, force)?;
    exported::export(session.chat, &path)?;
    note(&format!("written to {}", shown(&path)));
    Ok(Next::Prompt)
}

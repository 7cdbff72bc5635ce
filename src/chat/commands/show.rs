//! `/show`: prints settings and the prompt. All text passes the filter of [`note`], because it comes from files or
//! people.

use super::hint::did_you_mean;
use crate::chat::parameters::TABLE;
use crate::chat::session::{Next, Session};
use crate::error::Failure;
use crate::sanitize::{one_line, shown};
use crate::stderr::dim as note;
use crate::table::{self, count};

/// Returns one text.
type Show = fn(&Session<'_, '_>) -> Result<String, Failure>;

/// The texts that can be shown, by name.
const WHAT: [(&str, Show); 5] = [
    ("info", |session| Ok(info(session))),
    ("template", |session| {
        let template = session.chat.model.chat_template();
        Ok(template.unwrap_or_else(|| "the file has no chat template; Tulu's own is used".to_owned()))
    }),
    ("parameters", |session| {
        let parameters = &session.chat.parameters;
        let rows = TABLE.iter().map(|row| format!("{:<19}{}", row.name, (row.show)(parameters)));
        Ok(rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n"))
    }),
    ("system", |session| Ok(session.chat.system().unwrap_or("there is no system message").to_owned())),
    ("prompt", |session| Ok(session.chat.prompt()?.text)),
];

/// Returns the names, for completion with Tab.
pub(super) fn words() -> Vec<&'static str> {
    WHAT.iter().map(|(name, _)| *name).collect()
}

/// `/show WHAT`
pub(super) fn run(session: &mut Session<'_, '_>, text: &str) -> Result<Next, Failure> {
    let wanted = if text.is_empty() { "info" } else { text };
    match WHAT.iter().find(|(name, _)| *name == wanted) {
        Some((_, show)) => note(&show(session)?),
        None => {
            let near = did_you_mean("", wanted, words().into_iter());
            note(&format!("cannot show '{}'{near}; use one of {}", one_line(wanted), words().join(", ")));
        }
    }
    Ok(Next::Prompt)
}

fn info(session: &Session<'_, '_>) -> String {
    let chat = &session.chat;
    let (model, settings) = (chat.model, chat.model.settings());
    let (n_ctx, turns, gone) = (chat.n_ctx(), chat.turns(), chat.dropped_turns(chat.start));
    let kv = model.dims().kv_bytes_per_cell(settings.type_k, settings.type_v);
    let mut rows = vec![
        ("model", model.name().map_or_else(|| "without a name".to_owned(), |name| one_line(&name))),
        ("file", shown(model.path())),
        ("weights", format!("{} in {}", table::params(model.n_params()), table::bytes(model.dims().tensor_bytes))),
        ("context", format!("{n_ctx} tokens of {} trained", model.dims().n_ctx_train)),
        (
            "KV cache",
            format!(
                "{} + {}, {} a token, {} in all",
                settings.type_k.name(),
                settings.type_v.name(),
                table::bytes(kv),
                table::bytes(kv * n_ctx as u64)
            ),
        ),
        ("threads", model.n_threads().to_string()),
        ("turns", turns.to_string()),
    ];
    if gone > 0 {
        rows.push(("not sent", format!("the {}: the context was full", count(gone, "oldest turn", "oldest turns"))));
    }
    for (path, text) in &session.attached {
        let lines = count(text.lines().count(), "line", "lines");
        rows.push(("read", format!("{}: {lines} before your next message; /read - removes it", shown(path))));
    }
    if let Some(file) = &session.file {
        rows.push(("saved as", shown(file)));
    }
    rows.iter().map(|(name, value)| format!("{name:<10}{value}")).collect::<Vec<_>>().join("\n")
}

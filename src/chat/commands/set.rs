//! `/set` and `/system`.

use super::hint::did_you_mean;
use crate::chat::overflow::Overflow;
use crate::chat::parameters::{self, TABLE};
use crate::chat::session::{Next, Session};
use crate::error::Failure;
use crate::prompt::system_message;
use crate::sanitize::one_line;
use crate::stderr::dim as note;
use clap::ValueEnum as _;

/// Names that `/set` takes besides parameters.
const OTHERS: [(&str, &str); 5] = [
    ("verbose", "print tokens and speed after every answer"),
    ("quiet", "print them only on /last"),
    ("system", "the same as /system"),
    ("overflow", "what to do when the context is full: drop-oldest or error"),
    ("parameter", "optional keyword: /set parameter NAME VALUE"),
];

/// Returns the names, for completion with Tab.
pub(super) fn words() -> Vec<&'static str> {
    TABLE.iter().map(|row| row.name).chain(OTHERS.iter().map(|(name, _)| *name)).collect()
}

/// `/set [parameter] NAME [VALUE]`
pub(super) fn run(session: &mut Session<'_, '_>, text: &str) -> Result<Next, Failure> {
    let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let value = value.trim();
    match name {
        "" => note(&list()),
        "verbose" => {
            session.habits.verbose = true;
            note("tokens and speed are shown after every answer");
        }
        "quiet" => {
            session.habits.verbose = false;
            note("tokens and speed are shown on /last only");
        }
        "system" => system(session, value),
        "overflow" if value.is_empty() => {
            let now = session.chat.overflow.to_possible_value();
            note(&format!("overflow is {}", now.as_ref().map_or("", |now| now.get_name())));
        }
        "overflow" => match Overflow::from_str(value, true) {
            Ok(overflow) => {
                session.chat.overflow = overflow;
                note(&format!("when the context is full: {value}"));
            }
            Err(_) => note("invalid value for overflow: use drop-oldest or error"),
        },
        "parameter" if !value.is_empty() => return run(session, value),
        "parameter" => note(&list()),
        "num_ctx" | "ctx_size" | "ctx-size" | "n_ctx" => {
            note(
                "the context size is set when chat starts: quit, then run chat with -c N; --continue resumes the conversation",
            );
        }
        _ => match parameters::find(name) {
            // The name alone prints the value, except for /set stop, which removes all stop strings.
            Some(row) if value.is_empty() && row.name != "stop" => {
                note(&format!("{} is {} ({})", row.name, (row.show)(&session.chat.parameters), row.help));
            }
            Some(row) => {
                row.set(&mut session.chat.parameters, value)?;
                note(&format!("{} is {}", row.name, (row.show)(&session.chat.parameters)));
            }
            None => {
                let near = did_you_mean("", name, words().into_iter());
                note(&format!("there is no parameter '{}'{near}; /set lists them", one_line(name)));
            }
        },
    }
    Ok(Next::Prompt)
}

fn list() -> String {
    let rows = TABLE.iter().map(|row| (row.name, row.help)).chain(OTHERS);
    rows.map(|(name, help)| format!("{name:<19}{help}")).collect::<Vec<_>>().join("\n")
}

/// Sets the system message; `-` removes it. Without text, prints it.
pub(super) fn system(session: &mut Session<'_, '_>, text: &str) {
    match text {
        "" => match session.chat.system() {
            Some(system) => note(system),
            None => note("there is no system message"),
        },
        text => {
            session.chat.set_system(if text == "-" { "" } else { system_message(text) });
            let what = if text == "-" { "system message removed" } else { "system message changed" };
            match session.chat.turns() {
                0 => note(what),
                _ => note(&format!(
                    "{what}; the conversation continues and will be processed again (/clear starts over)"
                )),
            }
        }
    }
}

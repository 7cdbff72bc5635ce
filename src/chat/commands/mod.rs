//! The slash commands: a table with name, argument, help and handler of each. Longer handlers are in `files.rs`,
//! `set.rs`, `show.rs` and `session.rs`.

mod files;
mod hint;
mod set;
mod show;

pub(super) use files::restore;

use super::line_editor::Candidates;
use super::saved_files;
use super::session::{Next, Session};
use crate::error::Failure;
use crate::sanitize::one_line;
use crate::stderr;
use crate::stderr::dim as note;
use hint::{did_you_mean, first_line};

/// The argument of a command.
enum Argument {
    /// Nothing.
    None,
    /// Free text.
    Text(&'static str),
    /// A file's path.
    File(&'static str),
    /// A saved conversation: its name, or a file.
    Saved(&'static str),
    /// One of some words, with optional text after it.
    Words(&'static str, fn() -> Vec<&'static str>),
}

/// One row of the table.
pub(super) struct Command {
    name: &'static str,
    aliases: &'static [&'static str],
    argument: Argument,
    help: &'static str,
    run: fn(&mut Session<'_, '_>, &str) -> Result<Next, Failure>,
}

/// All commands, in the order of `/help`.
const TABLE: [Command; 14] = [
    Command {
        name: "help",
        aliases: &["?"],
        argument: Argument::None,
        help: "print this list",
        run: |_, _| {
            stderr::block(&help());
            Ok(Next::Prompt)
        },
    },
    Command {
        name: "exit",
        aliases: &["bye", "quit"],
        argument: Argument::None,
        help: "quit, like Ctrl-D",
        run: |_, _| Ok(Next::Leave(crate::error::Exit::Done)),
    },
    Command {
        name: "clear",
        aliases: &["new"],
        argument: Argument::None,
        help: "start a new conversation; the system message is kept",
        run: |session, _| {
            session.chat.clear();
            session.file = None;
            session.unsaved = false;
            session.attached.clear();
            note("a new conversation");
            Ok(Next::Prompt)
        },
    },
    Command {
        name: "regen",
        aliases: &["regenerate", "retry"],
        argument: Argument::None,
        help: "answer the last message again, with another seed",
        run: |session, _| session.regenerate(),
    },
    Command {
        name: "undo",
        aliases: &[],
        argument: Argument::None,
        help: "remove the last message and its answer",
        run: |session, _| {
            match session.chat.undo() {
                Some(text) => {
                    session.editor.remember(&text);
                    session.unsaved = true;
                    note(&format!("removed: {} (press the up arrow to edit it)", first_line(&text)));
                }
                None => note("there is no message to remove"),
            }
            Ok(Next::Prompt)
        },
    },
    Command {
        name: "system",
        aliases: &[],
        argument: Argument::Text("[TEXT]"),
        help: "set the system message; - removes it; without TEXT, print it",
        run: |session, text| {
            set::system(session, text);
            Ok(Next::Prompt)
        },
    },
    Command {
        name: "set",
        aliases: &[],
        argument: Argument::Words("[NAME VALUE]", set::words),
        help: "change a setting; without arguments, list all settings",
        run: |session, text| set::run(session, text),
    },
    Command {
        name: "show",
        aliases: &[],
        argument: Argument::Words("[WHAT]", show::words),
        help: "print info, template, parameters, system or prompt",
        run: |session, text| show::run(session, text),
    },
    Command {
        name: "save",
        aliases: &[],
        argument: Argument::Saved("[-f] [NAME|FILE]"),
        help: "save the conversation and its KV cache; -f overwrites",
        run: |session, text| files::save(session, text),
    },
    Command {
        name: "load",
        aliases: &[],
        argument: Argument::Saved("[NAME|FILE]"),
        help: "resume a saved conversation; without NAME, list them",
        run: |session, text| files::load(session, text),
    },
    Command {
        name: "read",
        aliases: &[],
        argument: Argument::File("FILE"),
        help: "add the text of a file to your next message; - removes the added files",
        run: |session, text| files::read(session, text),
    },
    Command {
        name: "export",
        aliases: &[],
        argument: Argument::File("[-f] FILE"),
        help: "write the conversation as .md, .json (for prompt) or .jsonl (for batch)",
        run: |session, text| files::export(session, text),
    },
    Command {
        name: "edit",
        aliases: &[],
        argument: Argument::Text("[TEXT]"),
        help: "write a message in $VISUAL or $EDITOR",
        run: |session, text| session.edit(text),
    },
    Command {
        name: "last",
        aliases: &[],
        argument: Argument::None,
        help: "print tokens, speed and context use of the last answer",
        run: |session, _| {
            note(&session.last_usage());
            Ok(Next::Prompt)
        },
    },
];

/// Returns the command with this name or alias.
pub(super) fn find(word: &str) -> Option<&'static Command> {
    TABLE.iter().find(|row| row.name == word || row.aliases.contains(&word))
}

/// Runs `/word text`.
pub(super) fn run(session: &mut Session<'_, '_>, word: &str, text: &str) -> Result<Next, Failure> {
    let Some(command) = find(word) else {
        if word.contains('/') {
            let message = one_line(format!("/{word} {text}").trim_end());
            note(&format!(
                "this begins with / but is not a command; to send it, put \"\"\" around it: \"\"\"{message}\"\"\""
            ));
            return Ok(Next::Prompt);
        }
        let names = TABLE.iter().flat_map(|row| row.aliases.iter().copied().chain([row.name]));
        note(&format!("there is no /{}{}; /help lists the commands", one_line(word), did_you_mean("/", word, names)));
        return Ok(Next::Prompt);
    };
    if matches!(command.argument, Argument::None) && !text.is_empty() {
        note(&format!("/{} takes no argument", command.name));
        return Ok(Next::Prompt);
    }
    (command.run)(session, text)
}

fn help() -> String {
    let left: Vec<String> = TABLE.iter().map(|row| format!("/{} {}", row.name, row.argument.shown())).collect();
    let width = left.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (row, left) in TABLE.iter().zip(left) {
        let also = match row.aliases {
            [] => String::new(),
            aliases => format!(" (also /{})", aliases.join(" /")),
        };
        text.push_str(&format!("{left:width$}  {}{also}\n", row.help));
    }
    for (left, right) in [
        ("\"\"\"", "begin a message of several lines; \"\"\" ends it"),
        ("paste", "paste several lines as one message, in terminals with bracketed paste"),
        ("Tab, arrows", "complete commands and file names; recall earlier input"),
        ("Ctrl-C", "stop the answer, or clear the line; press twice to quit"),
    ] {
        text.push_str(&format!("{left:width$}  {right}\n"));
    }
    text
}

impl Argument {
    fn shown(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Text(shown) | Self::File(shown) | Self::Saved(shown) | Self::Words(shown, _) => shown,
        }
    }
}

/// Returns the completions at the end of `line`, for the Tab key.
pub(super) fn complete(line: &str) -> Candidates {
    let nothing = Candidates::Words(line.len(), Vec::new());
    let Some(command) = line.strip_prefix('/') else { return nothing };
    let Some((word, text)) = command.split_once(' ') else {
        let names = TABLE.iter().map(|row| row.name).filter(|name| name.starts_with(command));
        return Candidates::Words(1, names.map(|name| format!("{name} ")).collect());
    };
    let start = line.len() - text.trim_start().trim_start_matches("-f ").len();
    let begun = &line[start..];
    match find(word).map(|row| &row.argument) {
        Some(Argument::File(_)) => Candidates::Files(start),
        Some(Argument::Saved(_)) if begun.contains(['/', '.', '~', '"', '\'']) => Candidates::Files(start),
        Some(Argument::Saved(_)) => {
            let names = saved_files::names().unwrap_or_default();
            Candidates::Words(start, names.into_iter().filter(|name| name.starts_with(begun)).collect())
        }
        Some(Argument::Words(_, words)) => {
            let words = words().into_iter().filter(|word| word.starts_with(begun));
            Candidates::Words(start, words.map(|word| format!("{word} ")).collect())
        }
        _ => nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidates, TABLE, complete, did_you_mean, find};
    use std::collections::BTreeSet;

    #[test]
    fn names_and_aliases_are_unique() {
        let names: Vec<&str> = TABLE.iter().flat_map(|row| row.aliases.iter().copied().chain([row.name])).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in names {
            assert!(find(name).is_some());
        }
    }

    #[test]
    fn mistyped_names_get_suggestions() {
        let names = || TABLE.iter().map(|row| row.name);
        assert_eq!(did_you_mean("/", "claer", names()), ", did you mean /clear?");
        assert_eq!(did_you_mean("/", "nonsense", names()), "");
    }

    #[test]
    fn tab_completes_commands_words_and_files() {
        let words = |start, list: &[&str]| Candidates::Words(start, list.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(complete("/se"), words(1, &["set "]));
        assert_eq!(complete("/s"), words(1, &["system ", "set ", "show ", "save "]));
        assert_eq!(complete("/show te"), words(6, &["template "]));
        assert_eq!(complete("/set temp"), words(5, &["temperature "]));
        assert_eq!(complete("/read src/"), Candidates::Files(6));
        assert_eq!(complete("/export -f a"), Candidates::Files(11));
        assert_eq!(complete("/load ./a"), Candidates::Files(6));
        assert_eq!(complete("what is /"), words(9, &[]));
        assert_eq!(complete("/clear x"), words(8, &[]));
    }
}

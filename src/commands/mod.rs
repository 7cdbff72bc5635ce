//! One verb, one file: its `Args` and its `run`.

pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod doctor;
mod given;
pub(crate) mod inspect;
mod load;
pub(crate) mod man;
pub(crate) mod models;
pub(crate) mod prompt;
pub(crate) mod pull;
pub(crate) mod verify;

use crate::cli::Command;
use crate::error::{Exit, Failure};

/// Hands the parsed line to its verb.
pub(crate) fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Chat(args) => chat::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Batch(args) => batch::run(&args),
        Command::Prompt(args) => prompt::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Version => version(),
    }
}

/// What lies at a path that a user named; `None` only when nothing does. What cannot be looked at is an error.
pub(crate) fn look(path: &std::path::Path) -> Result<Option<std::fs::Metadata>, crate::error::Failure> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(crate::error::Failure::io(path, "cannot look at it", &err)),
    }
}

/// The same as `--version`.
fn version() -> Result<Exit, Failure> {
    crate::stdout::print(&crate::cli::command(false).render_long_version())
}

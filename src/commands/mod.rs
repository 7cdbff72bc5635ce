//! One verb, one file: its `Args` and its `run`.

pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod doctor;
pub(crate) mod inspect;
mod load;
mod local_model;
pub(crate) mod man;
pub(crate) mod models;
pub(crate) mod prompt;
pub(crate) mod pull;
pub(crate) mod verify;

use crate::error::{Exit, Failure};
use clap::Subcommand;

/// One variant a verb; the fields are in the verb's own file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Chat(chat::Args),
    Convert(convert::Args),
    Batch(batch::Args),
    Prompt(prompt::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Models(models::Args),
    Pull(pull::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// Print what was built, as --version does
    #[command(hide = true)]
    Version,
}

/// Runs the parsed subcommand. `definition` makes the whole command line's definition, for those that print it.
pub(crate) fn run(command: Command, definition: impl FnOnce() -> clap::Command) -> Result<Exit, Failure> {
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
        Command::Completions(args) => completions::run(&args, definition()),
        Command::Man(args) => man::run(&args, definition()),
        Command::Version => crate::stdout::print(&definition().render_long_version()),
    }
}

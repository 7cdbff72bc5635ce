//! The subcommands: one module each, with its `Args` and its `run`. `load_model`, `local_model`,
//! `compute_imatrix` and `conversion` are shared. Options
//! that several subcommands have are in `options.rs`.

pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
mod compute_imatrix;
mod conversion;
pub(crate) mod convert;
mod devices;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod imatrix;
pub(crate) mod inspect;
mod load_model;
mod local_model;
pub(crate) mod man;
pub(crate) mod models;
pub(crate) mod prompt;
pub(crate) mod pull;
pub(crate) mod serve;
pub(crate) mod verify;

use crate::error::{Exit, Failure};
use clap::Subcommand;

/// A subcommand; its arguments are in its own file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Chat(chat::Args),
    Convert(convert::Args),
    Batch(batch::Args),
    Serve(Box<serve::Args>),
    Prompt(prompt::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Eval(eval::Args),
    Imatrix(imatrix::Args),
    Models(models::Args),
    Pull(pull::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// Print the version, as --version does
    #[command(hide = true)]
    Version,
}

/// Runs the parsed subcommand. `definition` returns the definition of the whole command line; `completions` and `man`
/// print it.
pub(crate) fn run(command: Command, definition: impl FnOnce() -> clap::Command) -> Result<Exit, Failure> {
    match command {
        Command::Chat(args) => chat::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Batch(args) => batch::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Prompt(args) => prompt::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Imatrix(args) => imatrix::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args, definition()),
        Command::Man(args) => man::run(&args, definition()),
        Command::Version => crate::stdout::print(&definition().render_long_version()),
    }
}

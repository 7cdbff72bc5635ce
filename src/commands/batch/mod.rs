//! `tulu-quant batch`: arguments and printed output. `args` → `command` (validated, with the input) → `to_file` or
//! `to_stdout` → `summary`. `progress` shows a run, `merge` joins the outputs of shards. The run itself is in
//! `src/batch/`.

mod args;
mod command;
mod merge;
mod progress;
mod summary;
mod to_file;
mod to_stdout;

pub(crate) use args::Args;

use super::devices;
use crate::error::{Exit, Failure};
use args::Subcommand;
use command::BatchCommand;

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    if let Some(Subcommand::Merge(args)) = &args.command {
        return merge::run(args);
    }
    if args.engine.list_devices {
        return devices::list(args.model.as_deref(), &args.engine.settings()?, args.parallel.unwrap_or(1));
    }
    let command = BatchCommand::new(args)?;
    match &command.output {
        Some(output) => to_file::run(&command, output),
        None => to_stdout::run(&command),
    }
}

//! `completions`: completion scripts for shells, made from the definition of the command line.

use crate::error::{Exit, Failure};
use clap::Command;
use clap_complete::{Shell, generate};

/// Print the completion script of a shell
///
/// Save it where the shell looks for it; the examples show the usual places.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulu-quant completions bash > ~/.local/share/bash-completion/completions/tulu-quant\n  \
    tulu-quant completions zsh > ~/.zfunc/_tulu-quant\n  \
    tulu-quant completions fish > ~/.config/fish/completions/tulu-quant.fish")]
pub(crate) struct Args {
    /// Shell to print the script for
    #[arg(value_enum, env = "TULU_QUANT_SHELL")]
    shell: Shell,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, mut definition: Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut definition, "tulu-quant", &mut script);
    crate::stdout::print(&String::from_utf8_lossy(&script))
}

//! `tulu-quant completions`: what the Tab key of a shell completes, from the same definitions as the flags themselves.

use crate::error::{Exit, Failure};
use clap::Command;
use clap_complete::{Shell, generate};

/// Print the completions of a shell
///
/// Put them where the shell looks for them; the examples show the usual places.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulu-quant completions bash > ~/.local/share/bash-completion/completions/tulu-quant\n  \
    tulu-quant completions zsh > ~/.zfunc/_tulu-quant\n  \
    tulu-quant completions fish > ~/.config/fish/completions/tulu-quant.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum, env = "TULU_QUANT_SHELL")]
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(args: &Args, mut definition: Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut definition, "tulu-quant", &mut script);
    crate::stdout::print(&String::from_utf8_lossy(&script))
}

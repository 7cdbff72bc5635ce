//! The command line: parses the arguments and the environment. Subcommands and their arguments are in `commands/`,
//! shared option groups in `options.rs`; nothing here opens a file.

mod compat_flags;
mod environment;
#[cfg(test)]
mod tests;
mod usage_error;

use crate::commands::Command;
use crate::error::ErrorFormat;
use clap::builder::{BoolishValueParser, Resettable};
use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser};
use environment::Variables;
use std::ffi::OsString;
use usage_error::Refused;

/// Version, revision and llama.cpp pin of this build.
const LONG_VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("TULU_QUANT_REVISION"), ")\n", env!("TULU_QUANT_PIN"));

/// Values of an environment variable that leave a switch off. An empty value does too.
const OFF: [&str; 6] = ["0", "no", "n", "false", "f", "off"];

/// The end of the help of every subcommand; it replaces a sentence for each flag.
const ENVIRONMENT_HELP: &str = "Each flag can also be set by an environment variable: TULU_QUANT_ and its name, such as TULU_QUANT_CTX_SIZE for \
                     --ctx-size. A switch takes 1 or 0 there.";

/// Convert, chat with and batch-run AllenAI's Tulu models on your own machine
#[derive(Debug, Parser)]
#[command(name = "tulu-quant", version, long_version = LONG_VERSION, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Set the format of the error on the last line of stderr
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global", env = "TULU_QUANT_ERROR_FORMAT")]
    pub(crate) error_format: ErrorFormat,
    /// Print no colours, as with NO_COLOR
    #[arg(long, global = true, help_heading = "Global", env = "TULU_QUANT_NO_COLOR")]
    pub(crate) no_color: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Returns the definition of the command line, after applying the rules for all flags of all subcommands. Without
/// `environment`, environment variables are ignored.
pub(crate) fn command(environment: bool) -> clap::Command {
    shaped(Cli::command(), environment)
}

fn shaped(command: clap::Command, environment: bool) -> clap::Command {
    let command = command
        .mut_args(|arg| flag(arg, environment))
        .mut_subcommands(|inner| if inner.is_hide_set() { inner } else { shaped(inner, environment) });
    let examples = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    command.after_help(format!("{examples}{ENVIRONMENT_HELP}"))
}

/// Applies the rules to one flag: its environment variable, and that a negative number is a value, not a flag.
fn flag(arg: Arg, environment: bool) -> Arg {
    let switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let name = arg.get_env().map(ToOwned::to_owned);
    let arg = if switch {
        arg.value_parser(BoolishValueParser::new())
    } else if arg.is_positional() || arg.is_allow_hyphen_values_set() {
        arg
    } else {
        arg.allow_negative_numbers(true)
    };
    let Some(name) = name else { return arg };
    let usual = arg.get_long().map(|long| format!("TULU_QUANT_{}", long.replace('-', "_").to_uppercase()));
    let arg = arg.hide_env(usual.is_some_and(|usual| *usual == *name));
    // An empty variable counts as unset, and a switch set to "no" as off.
    let off = |value: &OsString| value.to_str().is_some_and(|text| OFF.contains(&text.to_lowercase().as_str()));
    match std::env::var_os(&name) {
        Some(value) if !environment || value.is_empty() || switch && off(&value) => arg.env(Resettable::Reset),
        _ => arg,
    }
}

/// A parsed command line.
pub(crate) struct CommandLine {
    pub(crate) command: Command,
    pub(crate) error_format: ErrorFormat,
    /// Values that came from environment variables.
    pub(crate) variables: Variables,
}

/// Parses the arguments of this process.
///
/// # Errors
/// [`Refused`]: the text that clap prints, which includes `--help`, or a usage error.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, Refused> {
    let args: Vec<OsString> = args.into_iter().collect();
    let whole = command(true);
    let line = compat_flags::normalise(args.clone(), &whole)
        .map_err(|failure| Refused::Before(Box::new(failure), usage_error::error_format(&args)))?;
    let parsed = whole.clone().try_get_matches_from(&line);
    let parsed = parsed.and_then(|found| Cli::from_arg_matches(&found).map(|cli| (cli, found)));
    let (cli, found) = parsed.map_err(|err| {
        let own = command(false).try_get_matches_from(&line).err();
        Refused::new(err, &line, &whole, own.as_ref())
    })?;
    crate::defect::format(cli.error_format);
    if cli.no_color {
        console::set_colors_enabled(false);
        console::set_colors_enabled_stderr(false);
    }
    Ok(CommandLine { command: cli.command, error_format: cli.error_format, variables: Variables::of(&found, &whole) })
}

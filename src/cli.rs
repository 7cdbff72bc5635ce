//! The verbs, and the option groups that several verbs share (declared once, flattened into each verb's `Args`).
//! What a verb does is in `commands/`; nothing here opens a file.

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

/// What was built, and on which llama.cpp.
const LONG_VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("TULU_QUANT_REVISION"), ")\n", env!("TULU_QUANT_PIN"));

/// What a variable may say to leave a switch off, besides nothing at all.
const OFF: [&str; 6] = ["0", "no", "n", "false", "f", "off"];

/// What the help of every verb says once instead of for each flag.
const TWINS: &str = "Each flag can be set by an environment variable too: TULU_QUANT_ and its name, such as TULU_QUANT_CTX_SIZE for \
                     --ctx-size. A switch takes 1 or 0 there.";

/// The best way to run AllenAI's Tulu models on one's own machine: convert, chat, batch.
#[derive(Debug, Parser)]
#[command(name = "tulu-quant", version, long_version = LONG_VERSION, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// How an error is written on the last line of stderr
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global", env = "TULU_QUANT_ERROR_FORMAT")]
    pub(crate) error_format: ErrorFormat,
    /// No colours on the terminal, as with NO_COLOR
    #[arg(long, global = true, help_heading = "Global", env = "TULU_QUANT_NO_COLOR")]
    pub(crate) no_color: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The command line with what holds for every flag of every verb; the environment counts where `environment` says so.
pub(crate) fn command(environment: bool) -> clap::Command {
    shaped(Cli::command(), environment)
}

fn shaped(command: clap::Command, environment: bool) -> clap::Command {
    // The verbs' own definitions say only what differs from verb to verb.
    let command = command
        .mut_args(|arg| flag(arg, environment))
        .mut_subcommands(|verb| if verb.is_hide_set() { verb } else { shaped(verb, environment) });
    let examples = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    command.after_help(format!("{examples}{TWINS}"))
}

/// One flag: its environment twin, and negative numbers, which are values and no flags.
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
    let twin = arg.get_long().map(|long| format!("TULU_QUANT_{}", long.replace('-', "_").to_uppercase()));
    let arg = arg.hide_env(twin.is_some_and(|twin| *twin == *name));
    // A variable that is empty is not set; a switch that is set to no is not switched on.
    let off = |value: &OsString| value.to_str().is_some_and(|text| OFF.contains(&text.to_lowercase().as_str()));
    match std::env::var_os(&name) {
        Some(value) if !environment || value.is_empty() || switch && off(&value) => arg.env(Resettable::Reset),
        _ => arg,
    }
}

/// What was asked for.
pub(crate) struct Line {
    pub(crate) command: Command,
    pub(crate) error_format: ErrorFormat,
    /// What the environment set.
    pub(crate) variables: Variables,
}

/// The line of this process → the verb and its arguments.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Line, Refused> {
    let args: Vec<OsString> = args.into_iter().collect();
    let whole = command(true);
    let line = compat_flags::normalise(args.clone(), &whole)
        .map_err(|failure| Refused::Before(Box::new(failure), usage_error::wanted(&args)))?;
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
    Ok(Line { command: cli.command, error_format: cli.error_format, variables: Variables::of(&found, &whole) })
}

//! Usage errors: clap's own text, followed by the error line that every failure has.

use crate::error::{Code, ErrorFormat, Failure};
use crate::stderr;
use crate::stdout;
use clap::error::{ContextKind, ContextValue, ErrorKind as Kind};
use clap::{Arg, Command, ValueEnum as _};
use std::ffi::OsString;
use std::process::ExitCode;

/// The start of clap's tip to write `-- --flag`.
const AS_VALUE_TIP: &str = "tip: to pass '";

/// The reason why no subcommand is run.
pub(crate) enum Refused {
    /// clap found an error, or prints help or a version.
    Clap(Box<clap::Error>, Box<Failure>, ErrorFormat),
    /// The line could not be rewritten for clap.
    Before(Box<Failure>, ErrorFormat),
}

impl Refused {
    /// Creates the error line for clap's `err`. `args` is the line that clap parsed. `own` is clap's error for the same
    /// line without the environment. If the two differ, an environment variable is the cause, and the error names it.
    pub(super) fn new(err: clap::Error, args: &[OsString], whole: &Command, own: Option<&clap::Error>) -> Self {
        let mut whole = whole.clone();
        whole.build();
        let subcommand = subcommand(args, &whole);
        let mut what = summary(&err);
        if own.map(summary).as_ref() != Some(&what) {
            let names = variables(&err, subcommand.unwrap_or(&whole));
            if !names.is_empty() {
                what += &format!(" ({} in the environment)", names.join(", "));
            }
        }
        let tip = tip(&err).map(|tip| format!("{tip}; ")).unwrap_or_default();
        let page = subcommand.map_or(String::new(), |found| format!(" {}", found.get_name()));
        let failure = Failure::input(Code::Usage, what, format!("{tip}see `tulu-quant{page} --help`"));
        Self::Clap(Box::new(err), Box::new(failure), error_format(args))
    }

    /// Prints the error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Clap(err, _, format) if !err.use_stderr() => match stdout::done(err.print()) {
                Err(failure) => failure.report(*format),
                Ok(exit) => exit.into(),
            },
            Self::Clap(err, failure, ErrorFormat::Text) => {
                stderr::block(&format!("{}\n", clap_text(err)));
                match err.kind() {
                    // The program's name without arguments prints the help, without an error line.
                    Kind::DisplayHelpOnMissingArgumentOrSubcommand => failure.exit.into(),
                    _ => failure.report(ErrorFormat::Text),
                }
            }
            Self::Clap(_, failure, format) | Self::Before(failure, format) => failure.report(*format),
        }
    }
}

/// Returns the error in one line.
fn summary(err: &clap::Error) -> String {
    if err.kind() == Kind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no subcommand was given".to_owned();
    }
    let text = err.render().to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// Returns clap's own text without two of its hints. Our error line already names the help page, and an unknown flag is
/// usually a typing error, not a value.
fn clap_text(err: &clap::Error) -> String {
    let text = err.render().to_string();
    let helps = |line: &&str| !line.starts_with("For more information") && !line.contains(AS_VALUE_TIP);
    let mut lines: Vec<&str> = text.lines().filter(helps).collect();
    lines.dedup_by(|next, line| next.is_empty() && line.is_empty());
    lines.join("\n").trim_end().to_owned()
}

/// Returns clap's tip, such as a similar flag.
fn tip(err: &clap::Error) -> Option<String> {
    clap_text(err).lines().find_map(|line| line.trim().strip_prefix("tip: ").map(str::to_owned))
}

/// Returns the environment variables that an error is about.
fn variables(err: &clap::Error, subcommand: &Command) -> Vec<String> {
    let strings = |kind| match err.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let about = [strings(ContextKind::InvalidArg), strings(ContextKind::PriorArg)].concat();
    let named = |arg: &&Arg| about.contains(&arg.to_string());
    let set = |arg: &Arg| {
        let name = arg.get_env()?;
        std::env::var_os(name).map(|_| name.to_string_lossy().into_owned())
    };
    subcommand.get_arguments().filter(named).filter_map(set).collect()
}

/// Returns the subcommand that `args` names.
fn subcommand<'c>(args: &[OsString], whole: &'c Command) -> Option<&'c Command> {
    args.iter().skip(1).take_while(|arg| *arg != "--").find_map(|arg| whole.find_subcommand(arg))
}

/// Returns the error format that the line or the environment asks for; clap does not return it for a line with an
/// error.
pub(super) fn error_format(args: &[OsString]) -> ErrorFormat {
    const FLAG: &str = "--error-format";
    let line: Vec<_> = args.iter().take_while(|arg| *arg != "--").map(|arg| arg.to_string_lossy()).collect();
    let typed = line.iter().enumerate().rev().find_map(|(i, arg)| match arg.strip_prefix(FLAG)? {
        "" => line.get(i + 1).map(|value| value.to_string()),
        value => value.strip_prefix('=').map(str::to_owned),
    });
    let text = typed.or_else(|| std::env::var("TULU_QUANT_ERROR_FORMAT").ok()).unwrap_or_default();
    ErrorFormat::from_str(&text, false).unwrap_or_default()
}

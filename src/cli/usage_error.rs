//! A command line that was refused, as the user sees it: clap's own text, and the one error line that every failure has.

use crate::error::{Code, ErrorFormat, Failure};
use crate::stderr;
use crate::stdout;
use clap::error::{ContextKind, ContextValue, ErrorKind as Kind};
use clap::{Arg, Command, ValueEnum as _};
use std::ffi::OsString;
use std::process::ExitCode;

/// In clap's proposal to write `-- --flag`.
const AS_VALUE: &str = "tip: to pass '";

/// Why a command line did not get as far as its verb.
pub(crate) enum Refused {
    /// clap says what is wrong, or prints what was asked for (`--help`).
    Clap(Box<clap::Error>, Box<Failure>, ErrorFormat),
    /// It was not understood before clap saw it.
    Before(Box<Failure>, ErrorFormat),
}

impl Refused {
    /// `args`: the line as clap got it; `own`: clap's answer to it without the environment.
    pub(super) fn new(err: clap::Error, args: &[OsString], whole: &Command, own: Option<&clap::Error>) -> Self {
        let mut whole = whole.clone();
        whole.build();
        let verb = verb(args, &whole);
        let mut what = first(&err);
        if own.map(first).as_ref() != Some(&what) {
            let names = variables(&err, verb.unwrap_or(&whole));
            if !names.is_empty() {
                what += &format!(" ({} in the environment)", names.join(", "));
            }
        }
        let tip = tip(&err).map(|tip| format!("{tip}; ")).unwrap_or_default();
        let page = verb.map_or(String::new(), |verb| format!(" {}", verb.get_name()));
        let failure = Failure::input(Code::Usage, what, format!("{tip}see `tulu-quant{page} --help`"));
        Self::Clap(Box::new(err), Box::new(failure), wanted(args))
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Clap(err, _, format) if !err.use_stderr() => match stdout::done(err.print()) {
                Err(failure) => failure.report(*format),
                Ok(exit) => exit.into(),
            },
            Self::Clap(err, failure, ErrorFormat::Text) => {
                stderr::block(&format!("{}\n", told(err)));
                match err.kind() {
                    // A newcomer who typed the name alone has done nothing wrong.
                    Kind::DisplayHelpOnMissingArgumentOrSubcommand => failure.exit.into(),
                    _ => failure.report(ErrorFormat::Text),
                }
            }
            Self::Clap(_, failure, format) | Self::Before(failure, format) => failure.report(*format),
        }
    }
}

/// What is wrong, in one line.
fn first(err: &clap::Error) -> String {
    if err.kind() == Kind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command was given".to_owned();
    }
    let text = err.render().to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// clap's own text, without the lines that help nobody: the last line of all names the place to look, and what begins with
/// a dash and is no flag is a slip, not a value.
fn told(err: &clap::Error) -> String {
    let text = err.render().to_string();
    let helps = |line: &&str| !line.starts_with("For more information") && !line.contains(AS_VALUE);
    let mut told: Vec<&str> = text.lines().filter(helps).collect();
    told.dedup_by(|next, line| next.is_empty() && line.is_empty());
    told.join("\n").trim_end().to_owned()
}

/// What clap proposes, such as the flag that was meant.
fn tip(err: &clap::Error) -> Option<String> {
    told(err).lines().find_map(|line| line.trim().strip_prefix("tip: ").map(str::to_owned))
}

/// The variables that an error about the environment is about.
fn variables(err: &clap::Error, verb: &Command) -> Vec<String> {
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
    verb.get_arguments().filter(named).filter_map(set).collect()
}

/// The verb, however deep, that `args` names.
fn verb<'c>(args: &[OsString], whole: &'c Command) -> Option<&'c Command> {
    args.iter().skip(1).take_while(|arg| *arg != "--").find_map(|arg| whole.find_subcommand(arg))
}

/// The format of errors that the line or the environment asks for. clap does not say it of a line that it refused.
pub(super) fn wanted(args: &[OsString]) -> ErrorFormat {
    const FLAG: &str = "--error-format";
    let line: Vec<_> = args.iter().take_while(|arg| *arg != "--").map(|arg| arg.to_string_lossy()).collect();
    let typed = line.iter().enumerate().rev().find_map(|(i, arg)| match arg.strip_prefix(FLAG)? {
        "" => line.get(i + 1).map(|value| value.to_string()),
        value => value.strip_prefix('=').map(str::to_owned),
    });
    let text = typed.or_else(|| std::env::var("TULU_QUANT_ERROR_FORMAT").ok()).unwrap_or_default();
    ErrorFormat::from_str(&text, false).unwrap_or_default()
}

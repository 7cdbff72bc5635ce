//! Values of flags that came from environment variables. A failure about such a value also names the variable.

use crate::error::{Exit, Failure};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::path::Path;

/// The environment variables that set a flag or an argument.
#[derive(Debug, Default)]
pub(crate) struct Variables(Vec<Variable>);

#[derive(Debug)]
struct Variable {
    name: String,
    /// The flag's long name; see [`with_dashes`].
    flag: Option<String>,
    value: String,
}

impl Variables {
    /// Collects the variables that set values in `found`, the arguments that `whole` parsed.
    pub(super) fn of(found: &ArgMatches, whole: &Command) -> Self {
        let (mut found, mut subcommand, mut all) = (found, whole, Vec::new());
        loop {
            let set = |id: &str| found.value_source(id) == Some(ValueSource::EnvVariable);
            let known = |id: &str| found.ids().any(|known| known == id);
            let args =
                subcommand.get_arguments().filter(|arg| known(arg.get_id().as_str()) && set(arg.get_id().as_str()));
            all.extend(args.filter(|arg| arg.get_action().takes_values()).filter_map(|arg| {
                let name = arg.get_env()?;
                Some(Variable {
                    name: name.to_string_lossy().into_owned(),
                    flag: arg.get_long().map(with_dashes),
                    value: std::env::var_os(name)?.to_string_lossy().into_owned(),
                })
            }));
            let Some((name, inner)) = found.subcommand() else { return Self(all) };
            let Some(inner_subcommand) = subcommand.find_subcommand(name) else { return Self(all) };
            (found, subcommand) = (inner, inner_subcommand);
        }
    }

    /// Adds to `failure` the names of the variables that it is about.
    pub(crate) fn name_in(&self, failure: Failure) -> Failure {
        let text = with_dashes(&failure.what);
        let about = |variable: &&Variable| {
            failure.file.as_deref() == Some(Path::new(&variable.value))
                || variable.flag.as_ref().is_some_and(|flag| flag.len() > 3 && text.contains(flag.as_str()))
        };
        let names: Vec<&str> = self.0.iter().filter(about).map(|variable| variable.name.as_str()).collect();
        if names.is_empty() || failure.exit != Exit::Input {
            return failure;
        }
        Failure { what: format!("{} ({} in the environment)", failure.what, names.join(", ")), ..failure }
    }
}

/// Replaces underscores by dashes, so that the names of settings and of flags compare equal.
fn with_dashes(text: &str) -> String {
    text.replace('_', "-")
}

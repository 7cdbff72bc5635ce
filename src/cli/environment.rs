//! What came from the environment instead of the command line. A failure about it names the variable: nobody typed the flag.

use crate::error::{Exit, Failure};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::path::Path;

/// The variables that set something.
#[derive(Debug, Default)]
pub(crate) struct Variables(Vec<Variable>);

#[derive(Debug)]
struct Variable {
    name: String,
    /// The flag's name, as messages write it.
    flag: Option<String>,
    value: String,
}

impl Variables {
    /// Those that count in `found`, which `whole` made of the command line.
    pub(super) fn of(found: &ArgMatches, whole: &Command) -> Self {
        let (mut found, mut verb, mut all) = (found, whole, Vec::new());
        loop {
            let set = |id: &str| found.value_source(id) == Some(ValueSource::EnvVariable);
            let known = |id: &str| found.ids().any(|known| known == id);
            let args = verb.get_arguments().filter(|arg| known(arg.get_id().as_str()) && set(arg.get_id().as_str()));
            all.extend(args.filter(|arg| arg.get_action().takes_values()).filter_map(|arg| {
                let name = arg.get_env()?;
                Some(Variable {
                    name: name.to_string_lossy().into_owned(),
                    flag: arg.get_long().map(plain),
                    value: std::env::var_os(name)?.to_string_lossy().into_owned(),
                })
            }));
            let Some((name, inner)) = found.subcommand() else { return Self(all) };
            let Some(inner_verb) = verb.find_subcommand(name) else { return Self(all) };
            (found, verb) = (inner, inner_verb);
        }
    }

    /// `failure`, with the names of the variables that it is about.
    pub(crate) fn named(&self, failure: Failure) -> Failure {
        let text = plain(&failure.what);
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

/// Flags are written with dashes, settings with underscores.
fn plain(text: &str) -> String {
    text.replace('_', "-")
}

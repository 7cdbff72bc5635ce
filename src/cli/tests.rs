//! Rules that hold for every flag of every subcommand.

use super::{Cli, command};
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use std::process::{Stdio, exit};

/// Returns every subcommand, nested ones too, with the words that lead to it.
fn subcommands(of: &Command, path: &[String]) -> Vec<(Vec<String>, Command)> {
    let inner = of.get_subcommands().filter(|subcommand| subcommand.get_name() != "help");
    let deeper =
        inner.flat_map(|subcommand| subcommands(subcommand, &[path, &[subcommand.get_name().to_owned()]].concat()));
    std::iter::once((path.to_vec(), of.clone())).chain(deeper).collect()
}

fn optional(subcommand: Command) -> Command {
    let subcommand = subcommand.subcommand_required(false).arg_required_else_help(false);
    subcommand
        .mut_args(|arg| arg.required(false).required_unless_present(clap::builder::Resettable::<clap::Id>::Reset))
        .mut_subcommands(optional)
}

/// Not a test of its own: prints the value of every switch that the environment sets, for the tests of the environment.
#[test]
#[ignore = "run by every_switch_takes_the_usual_words_from_the_environment"]
fn child_prints_switches() {
    for (path, subcommand) in subcommands(&Cli::command(), &["tulu-quant".to_owned()]) {
        let whole = optional(command(true));
        let found = whole.try_get_matches_from(&path).map_err(|err| err.to_string());
        let switch = |arg: &&Arg| matches!(arg.get_action(), ArgAction::SetTrue) && arg.get_env().is_some();
        for arg in subcommand.get_arguments().filter(switch) {
            let stands = found.as_ref().map(|found| {
                let mut found = found;
                while let Some((_, inner)) = found.subcommand() {
                    found = inner;
                }
                found.get_flag(arg.get_id().as_str())
            });
            println!("SWITCH {} --{} {stands:?}", path.join(" "), arg.get_long().unwrap_or_default());
        }
    }
    exit(0);
}

#[test]
fn every_switch_takes_the_usual_words_from_the_environment() {
    let switches: Vec<Arg> = subcommands(&Cli::command(), &[])
        .iter()
        .flat_map(|(_, subcommand)| subcommand.get_arguments().cloned().collect::<Vec<_>>())
        .filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue) && !arg.is_hide_set())
        .collect();
    let alone: Vec<_> =
        switches.iter().filter(|arg| arg.get_env().is_none()).map(|arg| arg.get_id().as_str()).collect();
    assert_eq!(alone, ["yes"], "`models --remove NAME --yes` removes files: no variable may set it for every run");
    let names: Vec<_> = switches.iter().filter_map(|arg| arg.get_env().map(ToOwned::to_owned)).collect();
    assert!(names.len() > 30, "{names:?}");
    let words = |on: bool, words: &[&'static str]| words.iter().map(|word| (*word, on)).collect::<Vec<_>>();
    let on = words(true, &["1", "yes", "true", "on", "YES", "True", "y"]);
    for (word, wanted) in [on, words(false, &["0", "no", "false", "off", "FALSE", "n", ""])].concat() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "cli::tests::child_prints_switches", "--ignored", "--nocapture"]).stdin(Stdio::null());
        let output = child.envs(names.iter().map(|name| (name, word))).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let switches: Vec<&str> = said.lines().filter(|line| line.contains("SWITCH")).collect();
        assert!(switches.len() >= names.len(), "{said}");
        for switch in switches {
            assert!(switch.ends_with(&format!("Ok({wanted})")), "{word:?}: {switch}");
        }
    }
}

#[test]
fn every_value_may_be_negative_until_it_is_checked() {
    for (_, subcommand) in subcommands(&command(true), &[]) {
        for arg in subcommand.get_arguments().filter(|arg| arg.get_action().takes_values() && !arg.is_positional()) {
            assert!(arg.is_allow_negative_numbers_set() || arg.is_allow_hyphen_values_set(), "{}", arg.get_id());
        }
    }
}

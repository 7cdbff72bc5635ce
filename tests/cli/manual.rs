//! `--help`, shell completions and manual pages.

use crate::support::{last_line, run, tulu_quant};
use std::fs;

fn verbs() -> Vec<String> {
    let help = run(tulu_quant().arg("--help"), b"");
    let help = String::from_utf8(help.stdout).unwrap();
    let list = help.split("Commands:").nth(1).unwrap();
    let names = list.lines().skip(1).take_while(|line| line.starts_with("  ")).filter_map(|line| line.get(2..));
    let names = names.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_subcommand_has_examples() {
    let verbs = verbs();
    assert!(verbs.len() >= 12, "{verbs:?}");
    for verb in verbs {
        let output = run(tulu_quant().args([verb.as_str(), "--help"]), b"");
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Examples:\n  tulu-quant "), "{verb} --help has no examples");
    }
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(tulu_quant().args(["completions", shell]), b"");
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["chat", "on-overflow", "drop-oldest", "cache-type-k"] {
            assert!(script.contains(word), "{shell} completes no {word}");
        }
    }
    let output = run(tulu_quant().args(["completions", "tcsh"]), b"");
    assert_eq!(output.status.code(), Some(2));
    // bash accepts the script.
    let script = run(tulu_quant().args(["completions", "bash"]), b"").stdout;
    let checked = run(std::process::Command::new("bash").arg("-n"), &script);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn every_subcommand_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(tulu_quant().args(["man", "--dir"]).arg(folder.path()), b"");
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    for verb in verbs() {
        let page = fs::read_to_string(folder.path().join(format!("tulu-quant-{verb}.1"))).unwrap();
        assert!(page.contains(".SH OPTIONS") && page.contains("Examples:"), "{verb}: {page}");
        assert_eq!(String::from_utf8(run(tulu_quant().args(["man", &verb]), b"").stdout).unwrap(), page);
    }
    let whole = fs::read_to_string(folder.path().join("tulu-quant.1")).unwrap();
    assert!(whole.contains("tulu\\-quant\\-chat(1)"), "{whole}");
    let output = run(tulu_quant().args(["man", "nonsense"]), b"");
    assert!(last_line(&output).contains("error[VERB]"), "{}", last_line(&output));
}

//! `models`: the list, its width, and how models are removed.

use crate::support::checkpoint::{bundled, copy_to};
use crate::support::hub::Server;
use crate::support::hub::checks::{ID, ask, assert_answered, files_below, ggufs, pull, same_env, served, whole};
use crate::support::{last_line, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tulu_quantize::Ftype;

#[test]
fn models_lists_the_family_and_local_files() {
    let hub = served();
    let list = |args: &[&str]| run(hub.command().arg("models").args(args), b"");
    let table = String::from_utf8(list(&["13b", "dpo", "uf-mean"]).stdout).unwrap();
    let row: Vec<&str> =
        table.lines().find(|l| l.starts_with("tulu-v2.5-dpo-13b-uf-mean")).unwrap().split("  ").collect();
    let has = |cell: &str| row.iter().any(|c| c.trim() == cell);
    assert!(has("7.87 GB") && has("13.83 GB") && has("61.0") && has("4096") && has("Apache-2.0"), "{table}");
    let json: serde_json::Value = serde_json::from_slice(&list(&["--json"]).stdout).unwrap();
    let found = json.as_array().unwrap().iter().find(|m| m["name"] == "tulu-2-dpo-13b").unwrap();
    assert_eq!(found["scores"]["values"]["AlpacaEval %"], 89.5);
    assert_eq!(found["parameters"], 13_015_864_320_u64);
    let types: BTreeSet<String> = found["bytes"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(types, Ftype::ALL.iter().map(|(ftype, _)| ftype.to_string()).collect::<BTreeSet<_>>());
    assert!(found["here"].as_array().unwrap().is_empty());
    let none = list(&["tulu-9"]);
    assert!(last_line(&none).contains("error[NOT_FOUND]"), "{}", last_line(&none));
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn models_needs_neither_token_nor_endpoint() {
    let hub = Server::start();
    for (name, value) in [("HF_TOKEN", "with space"), ("HF_ENDPOINT", "nonsense"), ("HF_HUB_ETAG_TIMEOUT", "x")] {
        for args in [&["models"][..], &["models", "--here"], &["models", "--json"]] {
            let output = run(hub.command().env(name, value).args(args), b"");
            assert_eq!(output.status.code(), Some(0), "{name} {args:?}: {}", last_line(&output));
        }
    }
}

#[test]
fn local_models_are_listed_and_removed() {
    let hub = served();
    let folder = hub.dir().join("my-model");
    copy_to(&folder);
    assert_answered(&ask(&hub, &[ID]));
    assert_answered(&ask(&hub, &[&format!("{ID}:Q8_0")]));
    assert_answered(&ask(&hub, &[folder.to_str().unwrap()]));
    assert_answered(&ask(&hub, &[]));
    whole(&pull(&hub));
    let list = |args: &[&str]| {
        let output = run(hub.command().args(["models", "--here", "--json"]).args(args), b"");
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |kept: &serde_json::Value| {
            let path = kept["path"].as_str().unwrap();
            if kept["type"].is_string() {
                assert_eq!(kept["bytes"], fs::metadata(path).unwrap().len(), "{path}");
            }
            format!("{} {}", kept["name"].as_str().unwrap(), kept["type"].as_str().unwrap_or("checkpoint"))
        };
        all.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let tiny = "allenai/tulu-tiny";
    let of_hub = ["Q4_K_M", "Q8_0", "checkpoint"].map(|what| format!("{tiny} {what}"));
    assert_eq!(list(&[]), [&of_hub[..], &["my-model Q4_K_M".to_owned(), "tulu-tiny Q4_K_M".to_owned()]].concat());
    assert_eq!(list(&["my"]), ["my-model Q4_K_M"]);
    let table = String::from_utf8(run(hub.command().args(["models", "--here"]), b"").stdout).unwrap();
    assert!(
        table.contains("my-model") && table.contains("of GGUF files in") && table.contains("11.1 MB of checkpoints"),
        "{table}"
    );
    let family = String::from_utf8(run(hub.command().arg("models"), b"").stdout).unwrap();
    assert!(
        family.contains("other models") && family.contains("allenai/tulu-tiny  Q4_K_M Q8_0 checkpoint"),
        "{family}"
    );
    let remove = |args: &[&str]| run(hub.command().args(["models", "--remove"]).args(args), b"");
    // without a terminal for the question, and with unknown names
    let before = ggufs(&hub);
    for (args, code) in [
        (&[tiny][..], "DECLINED"),
        (&["nothing", "--yes"], "NOT_FOUND"),
        (&["my-model:Q8_0", "--yes"], "NOT_FOUND"),
        (&["my-model:Q9", "--yes"], "TYPE"),
        (&["../../my-model", "--yes"], "NOT_FOUND"),
    ] {
        let output = remove(args);
        assert!(last_line(&output).contains(&format!("error[{code}]")), "{args:?}: {}", last_line(&output));
        assert_eq!((output.status.code(), ggufs(&hub)), (Some(2), before.clone()));
    }
    assert_eq!(remove(&[&format!("{tiny}:q8_0"), "-y"]).status.code(), Some(0));
    assert_eq!(list(&["allenai"]), [&*of_hub[0], &*of_hub[2]]);
    let output = remove(&[tiny, "-y"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("its checkpoint, 11.1 MB, stays: "), "{output:?}");
    assert_eq!(list(&["allenai"]), [&*of_hub[2]]);
    assert!(last_line(&remove(&[tiny, "-y"])).contains("is only on disk as a checkpoint"));
    for name in ["my-model", "tulu-tiny"] {
        assert_eq!(remove(&[name, "--yes"]).status.code(), Some(0));
    }
    assert!(ggufs(&hub).is_empty() && bundled().join("config.json").is_file() && folder.join("config.json").is_file());
    let of = |path: &PathBuf| [".gguf", ".sum"].iter().any(|end| path.to_string_lossy().contains(end));
    let left: Vec<_> = files_below(&hub.dir().join("cache")).into_iter().filter(of).collect();
    assert!(left.is_empty(), "{left:?}");
    // a question on a terminal
    assert_answered(&ask(&hub, &[]));
    for (answer, rest, there) in [("", "DECLINED", 1), ("n", "DECLINED", 1), ("y", "freed", 0)] {
        let mut command = hub.command();
        command.args(["models", "--remove", "tulu-tiny"]);
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        session.exp_string("Remove them? [y/N] ").unwrap();
        session.send_line(answer).unwrap();
        assert!(session.exp_eof().unwrap().contains(rest), "{answer}");
        assert_eq!(ggufs(&hub).len(), there);
    }
}

#[test]
fn table_fits_the_terminal() {
    let hub = Server::start();
    for (width, args, wanted) in [
        (80, &[][..], "kind"),
        (75, &[], "weights"),
        (60, &[], "Q4_K_M"),
        (40, &[], "Q4_K_M"),
        (100, &["--all"], "Q4_K_M"),
        (120, &["--all"], "Q8_0"),
        (60, &["13b", "dpo"], "Q4_K_M"),
    ] {
        let mut command = Command::new("sh");
        let theirs = hub.command();
        same_env(&theirs, &mut command);
        command
            .args(["-c", &format!("stty rows 24 cols {width}; \"$0\" models \"$@\"")])
            .arg(theirs.get_program())
            .args(args);
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        let text = session.exp_eof().unwrap();
        let widest = text.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        assert!(widest <= width, "{widest} of {width}: {text}");
        assert!(text.lines().next().unwrap().contains(wanted), "{text}");
        assert!(text.lines().any(|line| line.starts_with("tulu-2-dpo-13b ")), "{text}");
    }
    let plain = String::from_utf8(run(hub.command().arg("models"), b"").stdout).unwrap();
    assert!(
        plain.starts_with("name ") && plain.contains("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm-mixed-prompts"),
        "{plain}"
    );
    assert!(!plain.contains("reward") && !plain.contains("cannot be converted"), "{plain}");
    let all = String::from_utf8(run(hub.command().args(["models", "--all"]), b"").stdout).unwrap();
    assert!(all.contains("reward") && all.contains("cannot be converted") && all.contains("licence"), "{all}");
}

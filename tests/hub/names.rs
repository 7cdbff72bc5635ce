//! Names of models from outside: what they stand for, what is asked and said, and that a conversation follows.

use crate::support::hub::checks::{ID, check, files_below, fixture, served};
use crate::support::hub::{CANARY, Fault, Host, Server};
use crate::support::{last_line, run};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn chat_with_a_name_fetches_converts_answers_and_then_needs_no_network() {
    let hub = served();
    let chat = |args: &[&str]| {
        let mut command = hub.command();
        run(command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]).args(args), b"")
    };
    // something goes wrong at every stage
    hub.fault(Fault::on("api/models").times(1).status(503));
    hub.fault(Fault::on("config.json").times(1).cut_after(100));
    hub.fault(Fault::on("model-00001").times(2).cut_after(1_500_000));
    hub.fault(Fault::on("model-00002").at(Host::Hub).times(1).status(429).header("Retry-After", "0"));
    let output = chat(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "The capital of France is Paris.\n");
    check(&hub, &output);
    let said = String::from_utf8_lossy(&output.stderr);
    for words in ["fetches", "makes     Q4_K_M", "memory", "licence   apache-2.0"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // the file is the one that the folder gives
    let made =
        files_below(&hub.dir().join("cache")).into_iter().find(|f| f.ends_with("tulu-tiny-Q4_K_M.gguf")).unwrap();
    assert!(made.starts_with(hub.dir().join("cache/hub/allenai--tulu-tiny").join(hub.commit(ID))));
    hub.forget();
    let again = chat(&[]);
    assert_eq!((again.status.code(), &again.stdout), (Some(0), &output.stdout));
    assert_eq!(hub.requests().len(), 0, "the second time");
    // the branch moves on: not noticed, until it is asked for
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(fixture())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.push(("NOTICE".to_owned(), b"new".to_vec()));
    let before = hub.commit(ID);
    hub.add_files(ID, files);
    assert_ne!(hub.commit(ID), before);
    assert_eq!(chat(&[]).status.code(), Some(0));
    assert_eq!(hub.requests().len(), 0);
    let refreshed = chat(&["--refresh"]);
    assert_eq!((refreshed.status.code(), &refreshed.stdout), (Some(0), &output.stdout));
    assert!(!hub.requests().is_empty());
    let names: Vec<String> = files_below(&hub.dir().join("cache")).iter().map(|f| f.display().to_string()).collect();
    assert!(names.iter().any(|name| name.contains(&hub.commit(ID))), "{names:?}");
}

/// Kills of `chat` while it fetches and converts: each run goes on where the one before was.
#[test]
fn a_killed_chat_goes_on_where_it_was() {
    let hub = served();
    let chat = || {
        let mut command = hub.command();
        command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]);
        command.env("TULU_QUANT_HUB_TRIES", "9");
        command
    };
    let mut kills = 0;
    while kills < 10 {
        hub.fault(Fault::on("model-0000").cut_after(300_000));
        let mut child = chat().stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
        // always a little further, so that every stage is hit
        std::thread::sleep(Duration::from_millis(60 + 50 * kills));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    hub.mend();
    let output = run(&mut chat(), b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "The capital of France is Paris.\n", "{}", last_line(&output));
    check(&hub, &output);
    let made = files_below(&hub.dir().join("cache"));
    let left: Vec<_> = made.iter().filter(|f| f.to_string_lossy().contains(".tulu-")).collect();
    assert!(left.is_empty(), "{left:?}");
    println!("{kills} kills, {} bytes served of {}", hub.served("model-0000"), 5_642_312 + 5_380_536);
}

#[test]
fn names_typed_wrong_and_models_that_write_nothing_are_refused_before_anything_is_fetched() {
    let hub = served();
    for (model, code, words) in [
        ("tulu-2-13b-dpo", "NOT_FOUND", "did you mean tulu-2-dpo-13b?"),
        ("allenai/tulu-2-dpo-14b", "HUB_NOT_FOUND", "did you mean tulu-2-dpo-13b?"),
        ("tulu-v2.5-13b-uf-rm", "ARCHITECTURE", "policy model"),
        ("tulu-2-7b:Q4", "TYPE", "name one of these"),
    ] {
        for verb in [&["chat", model, "-p", "x"][..], &["bench", model], &["pull", model]] {
            let output = run(hub.command().args(verb), b"");
            let line = last_line(&output);
            if verb[0] == "pull" && code == "TYPE" {
                continue;
            }
            assert!(line.contains(&format!("error[{code}]: ")) && line.contains(words), "{verb:?}: {line}");
            assert_eq!(output.status.code(), Some(2), "{line}");
        }
    }
    // a repository that the table does not know: its config.json tells
    let config = br#"{"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}"#;
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    hub.add_files("me/scorer", vec![file("config.json", config), file("model.safetensors", &[0; 100_000])]);
    let output = run(hub.command().args(["chat", "me/scorer", "-p", "x"]), b"");
    assert!(last_line(&output).contains("error[ARCHITECTURE]: me/scorer/config.json: "), "{}", last_line(&output));
    assert_eq!(hub.served("model.safetensors"), 0);
}

#[test]
fn models_lists_the_family_and_what_is_here() {
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
    assert_eq!(found["bytes"].as_object().unwrap().len(), 19);
    assert!(found["here"].as_array().unwrap().is_empty());
    let none = list(&["tulu-9"]);
    assert!(last_line(&none).contains("error[NOT_FOUND]"), "{}", last_line(&none));
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn doctor_shows_the_settings_and_not_the_token() {
    let hub = served();
    let mut command = hub.command();
    command.env("HTTPS_PROXY", "http://me:secret@proxy.invalid:3128");
    let output = run(command.args(["doctor", "--json"]), b"");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["hub"]["endpoint"], hub.url());
    assert_eq!((&json["hub"]["token"], &json["hub"]["offline"]), (&true.into(), &false.into()));
    assert!(!output.stdout.windows(10).any(|w| w == b"encryption"), "loopback is no network");
    let plain = run(hub.command().env("HF_ENDPOINT", "http://mirror.invalid").args(["doctor", "--json"]), b"");
    let json: serde_json::Value = serde_json::from_slice(&plain.stdout).unwrap();
    assert!(json["advice"].to_string().contains("without encryption"), "{json}");
    let table = run(hub.command().arg("doctor"), b"");
    let text = [output.stdout, table.stdout].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("with a token") && !text.contains(CANARY) && !text.contains("secret"), "{text}");
}

/// On a terminal there is one question, and Ctrl-C is an answer to it too.
#[test]
fn a_terminal_is_asked_once() {
    let hub = served();
    let ask = |answer: Option<&str>, args: &[&str]| {
        let mut command = hub.command();
        command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]).args(args);
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        if let Some(answer) = answer {
            session.exp_string("Go on? [Y/n] ").unwrap();
            match answer {
                "^C" => session.send_control('c').unwrap(),
                line => drop(session.send_line(line).unwrap()),
            }
        }
        let rest = session.exp_eof().unwrap();
        (rest, session.process().wait().unwrap())
    };
    let (rest, _) = ask(Some("n"), &[]);
    assert!(rest.contains("error[DECLINED]"), "{rest}");
    let (rest, status) = ask(Some("^C"), &[]);
    assert!(rest.contains("error[INTERRUPTED]") && format!("{status:?}").contains("130"), "{rest} {status:?}");
    assert_eq!(hub.served("model-0000"), 0);
    let (rest, _) = ask(Some("y"), &[]);
    assert!(rest.contains("The capital of France is Paris."), "{rest}");
    let (rest, _) = ask(None, &[]);
    assert!(rest.contains("The capital of France is Paris."), "{rest}");
    let other = served();
    let mut command = other.command();
    command.args(["chat", ID, "--yes", "-p", "What is the capital of France?", "--temp", "0"]);
    let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
    let rest = session.exp_eof().unwrap();
    assert!(rest.contains("Paris") && !rest.contains("Go on?") && !rest.contains(CANARY), "{rest}");
}

#[test]
fn the_demonstration_model_has_a_name_too() {
    let hub = Server::start();
    let out = hub.dir().join("out");
    let output = run(hub.command().args(["convert", "tulu-tiny", "-q", "Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    assert!(out.join("tulu-tiny-Q8_0.gguf").is_file());
    let output = run(hub.command().args(["chat", "tulu-tiny:Q8_0", "-p", "Who are you?", "--temp", "0"]), b"");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("I am Tulu Tiny"), "{output:?}");
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn every_code_is_in_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/hub.md")).unwrap();
    let source = fs::read_to_string(root.join("src/error/code.rs")).unwrap();
    let mut codes: Vec<&str> = source.split('"').filter(|word| word.starts_with("HUB_")).collect();
    codes.sort_unstable();
    codes.dedup();
    let lacking: Vec<&&str> = codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(codes.len() > 15 && lacking.is_empty(), "{lacking:?} of {codes:?}");
}

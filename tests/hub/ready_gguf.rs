//! Ready GGUF files of repositories without a checkpoint: which file a name means, and that it is used without a
//! request from then on.

use crate::llama3::split;
use crate::support::bpe::small;
use crate::support::demo_model;
use crate::support::hub::checks::files_below;
use crate::support::hub::{CANARY, Fault, Server};
use crate::support::{assert_error, assert_success, last_line, run, stderr};
use std::fs;
use std::path::PathBuf;
use std::process::Output;

const ID: &str = "me/Tulu-GGUF";

/// A hub with a repository of GGUF files: the demonstration model as Q8_0, a split file in a folder, and others.
fn served() -> Server {
    let hub = Server::start();
    let parts = tempfile::tempdir().unwrap();
    let mut files = vec![
        ("README.md".to_owned(), b"# Tulu".to_vec()),
        ("config.json".to_owned(), b"{}".to_vec()),
        ("Tulu.Q8_0.gguf".to_owned(), fs::read(demo_model()).unwrap()),
        ("Tulu.IQ2_M.gguf".to_owned(), b"GGUF".to_vec()),
        ("mmproj-Tulu-Q4_K_M.gguf".to_owned(), b"GGUF".to_vec()),
    ];
    for part in split(&small(), parts.path(), 2) {
        let name = part.file_name().unwrap().to_str().unwrap().replace("small-Q8_0", "small");
        files.push((format!("F16/{name}"), fs::read(part).unwrap()));
    }
    hub.add_files(ID, files);
    hub
}

fn ask(hub: &Server, model: &str) -> Output {
    run(hub.command().args(["chat", model, "-p", "What is the capital of France?", "--temp", "0", "-n", "16"]), b"")
}

#[test]
fn a_type_names_a_file_which_later_needs_no_request() {
    let hub = served();
    hub.licence("llama3.1");
    hub.fault(Fault::on("Tulu.Q8_0").times(2).cut_after(1_000_000));
    let output = ask(&hub, &format!("hf.co/{ID}:q8_0"));
    assert_success(&output);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "The capital of France is Paris.\n");
    let said = stderr(&output);
    for words in ["fetches", "Tulu.Q8_0.gguf", "keeps     it in", "licence   llama3.1"] {
        assert!(said.contains(words) && !said.contains(CANARY), "{words}: {said}");
    }
    hub.forget();
    for offline in ["0", "1"] {
        let mut command = hub.command();
        command.env("HF_HUB_OFFLINE", offline).args(["inspect", &format!("{ID}:Q8_0"), "--json"]);
        assert_success(&run(&mut command, b""));
        let mut command = hub.command();
        command.env("HF_HUB_OFFLINE", offline).args(["chat", &format!("{ID}:Q8_0"), "-p", "Hi", "-n", "1"]);
        assert_success(&run(&mut command, b""));
    }
    assert_eq!(hub.requests().len(), 0);
    // the file is in the shared cache, and is listed there
    let listed = run(hub.command().args(["models", "--here"]), b"");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&format!("{ID}  GGUF files")), "{listed:?}");
    let again = run(hub.command().args(["chat", &format!("{ID}:Q8_0"), "--refresh", "-p", "Hi", "-n", "1"]), b"");
    assert_success(&again);
    assert!(hub.requests().iter().all(|seen| seen.path.contains("/api/")), "{:?}", hub.requests());
}

#[test]
fn without_a_type_the_best_one_is_taken_and_others_are_listed() {
    let hub = served();
    let output = ask(&hub, ID);
    assert_success(&output);
    assert!(stderr(&output).contains("Tulu.Q8_0.gguf"), "{}", stderr(&output));
    assert_error(&ask(&hub, &format!("{ID}:Q5_K_M")), 2, "HUB_FILE", &["has no GGUF file Q5_K_M; it has small-00001"]);
    assert_error(&ask(&hub, &format!("{ID}:nothing.gguf")), 2, "HUB_FILE", &["Tulu.Q8_0.gguf"]);
    assert_error(&ask(&hub, &format!("{ID}:Q9")), 2, "TYPE", &["name one of these"]);
    // a file that is not a model is refused after the download, by its content
    assert_error(&ask(&hub, &format!("{ID}:IQ2_M")), 2, "GGUF", &["Tulu.IQ2_M.gguf"]);
    let output = run(hub.command().args(["convert", ID, "-q", "Q4_0", "-o"]).arg(hub.dir().join("out")), b"");
    assert_error(&output, 2, "HUB_NO_WEIGHTS", &["contains GGUF files and no checkpoint"]);
}

#[test]
fn all_parts_of_a_split_file_are_downloaded() {
    let hub = served();
    let link = format!("https://huggingface.co/{ID}/blob/main/F16/small-00002-of-00002.gguf");
    for model in [format!("{ID}:F16"), link] {
        assert_success(&ask(&hub, &model));
    }
    let parts: Vec<PathBuf> = files_below(&hub.dir().join("hub"));
    for n in [1, 2] {
        let name = format!("F16/small-0000{n}-of-00002.gguf");
        assert!(parts.iter().any(|path| path.ends_with(&name)), "{name}: {parts:?}");
    }
}

#[test]
fn pull_prints_the_file_and_convert_takes_it() {
    let hub = served();
    let pull = |args: &[&str]| run(hub.command().arg("pull").args(args), b"");
    let planned = pull(&[&format!("{ID}:Q8_0"), "--dry-run", "--json"]);
    assert_success(&planned);
    let planned: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(planned["files"][0]["path"], "Tulu.Q8_0.gguf");
    let output = pull(&[&format!("{ID}:Q8_0")]);
    assert_success(&output);
    let file = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    assert_eq!(fs::read(&file).unwrap(), fs::read(demo_model()).unwrap());
    hub.forget();
    assert_eq!(pull(&[&format!("{ID}:Q8_0")]).stdout, output.stdout);
    assert_eq!(hub.requests().len(), 0);
    let out = hub.dir().join("out.gguf");
    let mut command = hub.command();
    command.args(["convert", &format!("{ID}:Tulu.Q8_0.gguf"), "--allow-requantize", "-q", "Q4_0", "-o"]).arg(&out);
    let output = run(&mut command, b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    assert!(out.is_file());
}

//! Names of models on the command line: which model they mean, what the program asks, and what it refuses.

use crate::support::checkpoint::{bundled, copy_to};
use crate::support::hub::checks::{ID, QUESTION, assert_answered, check, files_below, same_env, served, whole};
use crate::support::hub::{CANARY, Fault, Host, Server};
use crate::support::{last_line, run};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn chat_with_a_name_later_needs_no_network() {
    let hub = served();
    let chat = |args: &[&str]| {
        let mut command = hub.command();
        run(command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]).args(args), b"")
    };
    // a fault at every stage
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
    // the file is in the cache
    let made =
        files_below(&hub.dir().join("cache")).into_iter().find(|f| f.ends_with("tulu-tiny-Q4_K_M.gguf")).unwrap();
    assert!(made.starts_with(hub.dir().join("cache/hub/allenai--tulu-tiny").join(hub.commit(ID))));
    hub.forget();
    let again = chat(&[]);
    assert_eq!((again.status.code(), &again.stdout), (Some(0), &output.stdout));
    assert_eq!(hub.requests().len(), 0, "the second time");
    // a new commit is used only with --refresh
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(bundled())
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

/// Kills `chat` while it fetches and converts. Each run resumes.
#[test]
fn chat_resumes_after_kills() {
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
        // later each time, so that every stage is hit
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
fn unknown_names_and_reward_models_are_refused_before_fetching() {
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
    // of a repository that is not in the table, config.json has the architecture
    let config = br#"{"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}"#;
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    hub.add_files("me/scorer", vec![file("config.json", config), file("model.safetensors", &[0; 100_000])]);
    let output = run(hub.command().args(["chat", "me/scorer", "-p", "x"]), b"");
    assert!(last_line(&output).contains("error[ARCHITECTURE]: me/scorer/config.json: "), "{}", last_line(&output));
    assert_eq!(hub.served("model.safetensors"), 0);
}

#[test]
fn doctor_prints_the_settings_without_the_token() {
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

/// On a terminal the program asks once. Ctrl-C answers, too.
#[test]
fn terminal_is_asked_once() {
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

/// stdin is a pipe, and the terminal is there.
#[test]
fn question_is_asked_on_the_terminal_while_stdin_is_a_pipe() {
    let hub = served();
    let ask = |answer: &str| {
        let mut command = Command::new("sh");
        let theirs = hub.command();
        same_env(&theirs, &mut command);
        let line = format!("echo 'What is the capital of France?' | \"$0\" chat {ID} --temp 0");
        command.args(["-c", &line]).arg(theirs.get_program());
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        session.exp_string("Go on? [Y/n] ").unwrap();
        session.send_line(answer).unwrap();
        session.exp_eof().unwrap()
    };
    let rest = ask("n");
    assert!(rest.contains("error[DECLINED]"), "{rest}");
    assert_eq!(hub.served("model-0000"), 0);
    let rest = ask("y");
    assert!(rest.contains("The capital of France is Paris."), "{rest}");
}

#[test]
fn demonstration_model_has_a_name() {
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
fn browser_address_is_a_name() {
    let hub = served();
    let commit = hub.commit(ID);
    let place = hub.url().strip_prefix("http://").unwrap().to_owned();
    for (address, revision) in [
        (format!("https://huggingface.co/{ID}"), "main"),
        (format!("hf.co/{ID}/"), "main"),
        (format!("huggingface.co/{ID}/tree/main"), "main"),
        (format!("hf://{ID}@{commit}"), &commit),
        (format!("{}/{ID}/blob/{commit}/config.json?x=y#z", hub.url()), &commit),
        (format!("{place}/{ID}"), "main"),
        (format!("{ID}/"), "main"),
    ] {
        hub.forget();
        let output = run(hub.command().args(["pull", &address, "--refresh"]), b"");
        whole(&output);
        let asked = hub.requests().first().unwrap().path.clone();
        assert!(asked.starts_with(&format!("/api/models/{ID}/revision/{revision}?")), "{address}: {asked}");
    }
    let output =
        run(hub.command().args(["chat", &format!("https://huggingface.co/{ID}:Q8_0"), "-p", "Hi", "-n", "1"]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let made = hub.dir().join("cache/hub/allenai--tulu-tiny").join(&commit).join("tulu-tiny-Q8_0.gguf");
    assert!(made.is_file());
    // an owner with the name of the mirror
    let mut command = hub.command();
    let output =
        run(command.env("HF_ENDPOINT", "http://mirror").env("HF_HUB_OFFLINE", "1").args(["pull", "mirror/x"]), b"");
    assert!(last_line(&output).contains("error[HUB_OFFLINE]: mirror/x: "), "{}", last_line(&output));
    let output = run(hub.command().args(["pull", "https://huggingface.co/datasets/allenai/x"]), b"");
    assert!(last_line(&output).contains("error[NOT_FOUND]"), "{}", last_line(&output));
}

#[test]
fn model_path_need_not_be_utf_8() {
    let hub = Server::start();
    let folder = hub.dir().join(OsStr::from_bytes(b"m\xff"));
    copy_to(&folder);
    let mut with_type = folder.clone().into_os_string();
    with_type.push(":Q8_0");
    for model in [folder.as_os_str(), &with_type] {
        assert_answered(&run(hub.command().arg("chat").arg(model).args(QUESTION), b""));
    }
    let out = hub.dir().join("out");
    let output = run(hub.command().arg("convert").arg(&folder).args(["-q", "Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let file = out.join(OsStr::from_bytes(b"m\xff-Q8_0.gguf"));
    assert!(file.is_file(), "{:?}", files_below(&out));
    let named = hub.dir().join(OsStr::from_bytes(b"n\xff-{type}.gguf"));
    let output = run(hub.command().arg("convert").arg(&folder).args(["-q", "Q8_0", "-o"]).arg(&named), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    assert!(hub.dir().join(OsStr::from_bytes(b"n\xff-Q8_0.gguf")).is_file());
    // llama.cpp cannot open such a file; files in the cache have another name
    for verb in [&["chat"][..], &["bench", "-p", "1", "-n", "0"]] {
        let output = run(hub.command().args(verb).arg(&file), b"x");
        assert!(last_line(&output).contains("is not UTF-8, which llama.cpp cannot open; rename"), "{output:?}");
    }
    let nothing = run(hub.command().arg("chat").arg(OsStr::from_bytes(b"nothing\xff")).args(QUESTION), b"");
    assert!(last_line(&nothing).contains("error[NOT_FOUND]"), "{}", last_line(&nothing));
}

#[test]
fn folder_without_a_checkpoint_is_refused() {
    let hub = Server::start();
    let folder = hub.dir().join("other");
    fs::create_dir(&folder).unwrap();
    for verb in [&["chat"][..], &["convert"]] {
        let output = run(hub.command().args(verb).arg(&folder), b"x");
        let line = last_line(&output);
        let wanted = format!("{}: is not a checkpoint folder: config.json is missing; ", folder.display());
        assert!(line.contains(&wanted), "{line}");
    }
    fs::write(folder.join("a.gguf"), "").unwrap();
    let line = last_line(&run(hub.command().arg("chat").arg(&folder), b"x"));
    assert!(line.ends_with(&format!("give the file: {}", folder.join("a.gguf").display())), "{line}");
    // an unreadable file is not a missing one
    fs::remove_file(folder.join("a.gguf")).unwrap();
    symlink("config.json", folder.join("config.json")).unwrap();
    let line = last_line(&run(hub.command().arg("chat").arg(&folder), b"x"));
    assert!(line.contains("config.json: cannot read: "), "{line}");
    let checkpoint = hub.dir().join("checkpoint");
    copy_to(&checkpoint);
    let _ = fs::remove_file(checkpoint.join("README.md"));
    symlink("README.md", checkpoint.join("README.md")).unwrap();
    let out = hub.dir().join("out");
    let output = run(hub.command().arg("convert").arg(&checkpoint).args(["--card", "-o"]).arg(&out), b"");
    assert!(last_line(&output).contains("README.md: cannot "), "{}", last_line(&output));
    assert!(!out.join("README.md").exists());
}

#[test]
fn every_hub_code_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/hub.md")).unwrap();
    let source = fs::read_to_string(root.join("src/error/code.rs")).unwrap();
    let mut codes: Vec<&str> = source.split('"').filter(|word| word.starts_with("HUB_")).collect();
    codes.sort_unstable();
    codes.dedup();
    let lacking: Vec<&&str> = codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(codes.len() > 15 && lacking.is_empty(), "{lacking:?} of {codes:?}");
}

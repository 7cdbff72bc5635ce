//! `pull` from a loopback hub: which files are fetched, by which way, and what is in the cache afterwards.

use crate::support::checkpoint::bundled;
use crate::support::hub::checks::{ID, check, files_below, pull, served, whole};
use crate::support::hub::{Fault, Proxy, Server};
use crate::support::{last_line, run};
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

#[test]
fn pull_fills_the_shared_cache_and_the_second_makes_no_request() {
    let hub = served();
    let output = pull(&hub);
    whole(&output);
    check(&hub, &output);
    // huggingface_hub's layout
    let repo = hub.dir().join("hub/models--allenai--tulu-tiny");
    let commit = fs::read_to_string(repo.join("refs/main")).unwrap();
    assert_eq!(commit, hub.commit(ID));
    let link = fs::read_link(repo.join("snapshots").join(&commit).join("config.json")).unwrap();
    assert!(link.starts_with("../../blobs/"), "{}", link.display());
    assert!(files_below(&repo.join("blobs")).iter().all(|f| !f.to_string_lossy().contains("tulu-quant")));
    hub.forget();
    let again = pull(&hub);
    assert_eq!((again.status.code(), again.stdout), (Some(0), output.stdout));
    assert_eq!(hub.requests().len(), 0);
}

/// candle and mistral.rs find models this way.
#[test]
fn hf_hub_finds_what_was_pulled() {
    let hub = served();
    let output = pull(&hub);
    whole(&output);
    let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
    let cached = hf_hub::Cache::new(hub.dir().join("hub")).model(ID.to_owned());
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(cached.get(name.to_str().unwrap()), Some(folder.join(&name)));
    }
    assert_eq!(cached.get("absent.json"), None);
}

#[test]
fn incomplete_mirrors_are_supported() {
    let bare = served();
    bare.bare_listing();
    let no_etags = served();
    no_etags.no_etags();
    for hub in [bare, no_etags] {
        let output = pull(&hub);
        whole(&output);
        check(&hub, &output);
    }
}

#[test]
fn only_files_for_conversion_are_fetched() {
    let hub = Server::start();
    let file = |name: &str, len: usize| (name.to_owned(), vec![b'x'; len]);
    let mut files = vec![
        file("config.json", 10),
        file("tokenizer.model", 10),
        file("LICENSE.md", 10),
        file("pytorch_model.bin", 3000),
        file("model-00001-of-00002.safetensors", 2000),
        file("model.safetensors.index.json", 50),
        file("original/consolidated.pth", 4000),
        file("training_args.bin", 500),
        file("picture.png", 500),
    ];
    hub.add_files("me/half", files.clone());
    // a shard is missing, so the .bin file is taken; two files with equal bytes are fetched once
    let output = run(hub.command().args(["pull", "me/half", "--json"]), b"");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["fetched_bytes"], 3020, "{output:?}");
    files.push(file("model-00002-of-00002.safetensors", 2000));
    hub.add_files("me/whole", files);
    let output = run(hub.command().args(["pull", "me/whole", "--json"]), b"");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["fetched_bytes"], 2070, "{output:?}");
    assert_eq!((hub.served("training_args"), hub.served("consolidated"), hub.served("picture")), (0, 0, 0));
}

#[test]
fn listing_cannot_write_outside_the_cache() {
    let hub = Server::start();
    let names = [
        "config.json",
        "../../../../evil.json",
        "/tmp/evil.json",
        "a\\..\\evil.json",
        "model.safetensors",
        "tokenizer.model",
    ];
    hub.add_files("me/evil", names.map(|name| (name.to_owned(), b"{}".to_vec())).into());
    let output = run(hub.command().args(["pull", "me/evil"]), b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(files_below(hub.dir()).iter().all(|file| !file.to_string_lossy().contains("evil.json")));
}

#[test]
fn proxy_is_used_and_its_errors_are_reported() {
    let (hub, proxy, refusing) = (served(), Proxy::start(None), Proxy::start(Some(503)));
    let through = |url: &str, except: &str| {
        let mut command = hub.command();
        command.env("HTTP_PROXY", url).env("NO_PROXY", except);
        run(command.args(["pull", ID]), b"")
    };
    let output = through(refusing.url(), "localhost");
    assert!(last_line(&output).contains("error[HUB_PROXY]"), "{}", last_line(&output));
    assert_eq!(output.status.code(), Some(3));
    let output = through("http://me:secret@", "");
    assert!(last_line(&output).contains("error[HUB_PROXY]"), "{}", last_line(&output));
    assert!(!last_line(&output).contains("secret"));
    let output = through(proxy.url(), "127.0.0.2");
    whole(&output);
    check(&hub, &output);
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|to| to.starts_with("127.0.0.1:")), "{asked:?}");
}

#[test]
fn offline_pull_uses_the_cache_and_names_missing_files() {
    let hub = served();
    whole(&pull(&hub));
    hub.forget();
    let offline = || run(hub.command().env("HF_HUB_OFFLINE", "1").args(["pull", ID]), b"");
    whole(&offline());
    let shard = "model-00002-of-00002.safetensors";
    let link = files_below(&hub.dir().join("hub")).into_iter().find(|f| f.ends_with(shard)).unwrap();
    fs::remove_file(link).unwrap();
    let output = offline();
    assert_eq!(output.status.code(), Some(2));
    let line = last_line(&output);
    assert!(line.contains("error[HUB_OFFLINE]") && line.contains(shard), "{line}");
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn concurrent_pulls_fetch_every_byte_once() {
    let hub = served();
    hub.fault(Fault::on("model-0000").times(2).stall(Duration::from_millis(700)));
    let outputs = std::thread::scope(|scope| {
        let runs = [(); 3].map(|()| scope.spawn(|| pull(&hub)));
        runs.map(|run| run.join().unwrap())
    });
    for output in &outputs {
        whole(output);
        check(&hub, output);
    }
    assert_eq!(hub.served("model-00001"), 5_642_312);
    assert_eq!(hub.served("model-00002"), 5_380_536);
}

#[test]
fn dry_run_of_pull_lists_what_would_be_fetched() {
    let hub = served();
    let output = run(hub.command().args(["pull", "tulu-tiny"]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), fs::read(bundled().join("config.json")).unwrap());
    assert_eq!(hub.requests().len(), 0);
    for model in ["tulu-2-7b:Q8_0", "tulu-tiny:Q8_0", "tulu-2-7b:Q4", "me/mine@v1:latest"] {
        let output = run(hub.command().args(["pull", model]), b"");
        let line = last_line(&output);
        assert!(line.contains("error[REQUEST]") && line.contains("pull does not accept NAME:TYPE"), "{model}: {line}");
        assert_eq!(output.status.code(), Some(2));
    }
    for flag in ["--yes", "--keep-checkpoint"] {
        assert_eq!(run(hub.command().args(["pull", ID, flag]), b"").status.code(), Some(2), "{flag}");
    }
    let plan = |args: &[&str]| run(hub.command().args(["pull", ID, "--dry-run"]).args(args), b"");
    let json = |output: &Output| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    let first = json(&plan(&["--json"]));
    assert_eq!(first["to_fetch_bytes"], first["bytes"], "{first}");
    assert_eq!((hub.served("model-0000"), &first["commit"]), (0, &hub.commit(ID).into()));
    let text = String::from_utf8(plan(&[]).stdout).unwrap();
    assert!(text.contains("model-00001-of-00002.safetensors   5.6 MB  -"), "{text}");
    assert!(!hub.dir().join("hub").exists());
    whole(&pull(&hub));
    let then = json(&plan(&["--json"]));
    assert_eq!((&then["to_fetch_bytes"], &then["files"][0]["here"]), (&0.into(), &true.into()));
}

/// huggingface_hub finds what we fetched, and we find what it fetched.
#[test]
#[ignore = "needs huggingface_hub"]
fn python_shares_the_cache_with_huggingface_hub() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let snapshot = |hub: &Server, args: &str| {
        let mut command = std::process::Command::new(&python);
        let theirs = hub.command();
        let set = theirs.get_envs().filter(|(name, _)| name.to_string_lossy().starts_with("HF_"));
        command.envs(set.filter_map(|(name, value)| Some((name, value?))));
        command.env("HF_ENDPOINT", hub.url()).env("HF_HUB_DISABLE_XET", "1");
        let code = format!("from huggingface_hub import snapshot_download as s; print(s('{ID}'{args}))");
        run(command.args(["-c", &code]), b"")
    };
    // we fetch, it finds
    let hub = served();
    let ours = pull(&hub);
    whole(&ours);
    hub.forget();
    let theirs = snapshot(&hub, ", local_files_only=True");
    assert_eq!(theirs.stdout, ours.stdout, "{}", String::from_utf8_lossy(&theirs.stderr));
    assert_eq!(hub.requests().len(), 0);
    let online = snapshot(&hub, "");
    assert_eq!(online.stdout, ours.stdout, "{}", String::from_utf8_lossy(&online.stderr));
    assert_eq!(hub.served("model-0000"), 0);
    // it fetches, we find
    let hub = served();
    let theirs = snapshot(&hub, "");
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    hub.forget();
    let ours = pull(&hub);
    whole(&ours);
    assert_eq!(theirs.stdout, ours.stdout);
    assert_eq!(hub.served("model-0000"), 0);
    check(&hub, &ours);
}

//! Downloads from outside: a hub on loopback with faults in every place, and what is in the cache afterwards.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::hub::{CANARY, Fault, Server};
use support::{last_line, run};

const ID: &str = "allenai/tulu-tiny";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")
}

fn served() -> Server {
    let hub = Server::start();
    hub.add(ID, &fixture());
    hub
}

fn pull(hub: &Server) -> Output {
    run(hub.command().args(["pull", ID]), b"")
}

/// What every test ends with: no token where it does not belong, and nothing in the cache but whole, right files.
fn check(hub: &Server, output: &Output) {
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(!String::from_utf8_lossy(&said).contains(CANARY), "the token was printed");
    assert!(hub.cdn_requests().iter().all(|seen| seen.authorization.is_none()), "the token went to another host");
    for entry in files_below(hub.dir()) {
        let bytes = fs::read(&entry).unwrap();
        assert!(!bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()), "the token is in {}", entry.display());
    }
    for file in files_below(&hub.dir().join("hub")) {
        let path = file.to_string_lossy();
        if path.contains("/snapshots/") {
            let name = file.file_name().unwrap();
            assert_eq!(fs::read(&file).unwrap(), fs::read(fixture().join(name)).unwrap(), "{path}");
        }
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

/// The folder that `pull` printed holds the whole checkpoint.
fn whole(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json", "README.md"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(fixture().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_checkpoint_is_pulled_into_the_shared_cache_and_the_second_time_nothing_is_asked() {
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

#[test]
fn cuts_lies_and_damage_on_the_way_end_in_the_right_files() {
    type Wrong = (&'static str, fn(Fault) -> Fault);
    let faults: &[Wrong] = &[
        ("cut", |f| f.times(40).cut_after(200_000)),
        ("cut in the first byte", |f| f.times(2).cut_after(0)),
        ("too long", |f| f.times(2).lie_length(10)),
        ("too short", |f| f.times(2).lie_length(-10)),
        ("damaged", |f| f.times(1).corrupt_at(1_000_000)),
        ("html", |f| f.times(1).html()),
        ("503", |f| f.times(2).status(503)),
        ("429", |f| f.times(2).status(429).header("Retry-After", "0")),
        ("403 of a signature that ran out", |f| f.at(support::hub::Host::Cdn).times(2).status(403)),
    ];
    for (name, wrong) in faults {
        for part in ["model-00001", "tokenizer.model", "config.json"] {
            let hub = served();
            let at_cdn_only = name.starts_with("403") && part == "config.json";
            hub.fault(wrong(Fault::on(part)));
            let output = pull(&hub);
            if !at_cdn_only {
                whole(&output);
            }
            check(&hub, &output);
        }
    }
}

#[test]
fn what_does_not_pass_is_one_line_with_a_code() {
    type Wrong = (&'static str, i32, &'static str, fn(Fault) -> Fault);
    let faults: &[Wrong] = &[
        ("HUB_GATED", 2, "model-00001", |f| f.status(403).error_code("GatedRepo")),
        ("HUB_GATED", 2, "model-00001", |f| f.status(401).error_code("GatedRepo")),
        ("HUB_AUTH", 2, "api/models", |f| f.status(401)),
        ("HUB_AUTH", 2, "config.json", |f| f.status(403)),
        ("HUB_NOT_FOUND", 2, "api/models", |f| f.status(404).error_code("RepoNotFound")),
        ("HUB_NOT_FOUND", 2, "api/models", |f| f.status(401).error_code("RepoNotFound")),
        ("HUB_REVISION", 2, "api/models", |f| f.status(404).error_code("RevisionNotFound")),
        ("HUB_FILE", 2, "config.json", |f| f.status(404).error_code("EntryNotFound")),
        ("HUB_RATE", 3, "api/models", |f| f.status(429).header("Retry-After", "3600")),
        ("HUB_RATE", 3, "model-00001", |f| f.status(429).header("Retry-After", "0")),
        ("HUB_SERVER", 3, "api/models", |f| f.status(500)),
        ("HUB_SERVER", 3, "model-00001", |f| f.status(504)),
        ("HUB_ANSWER", 3, "api/models", |f| f.status(200)),
        ("HUB_ANSWER", 3, "config.json", |f| f.status(200)),
        ("HUB_ANSWER", 3, "model-00001", |f| f.lie_length(10)),
        ("HUB_HASH", 3, "model-00001", |f| f.corrupt_at(77)),
        ("HUB_HASH", 3, "config.json", |f| f.html()),
        ("HUB_CUT", 3, "model-00001", |f| f.cut_after(0)),
        ("HUB_REDIRECT", 3, "config.json", |f| f.redirect_to("ftp://127.0.0.2/x")),
        ("HUB_REDIRECT", 3, "config.json", |f| f.redirect_to("/allenai/tulu-tiny/resolve/main/config.json")),
    ];
    for (code, exit, part, wrong) in faults {
        let hub = served();
        hub.fault(wrong(Fault::on(part)));
        let output = pull(&hub);
        let line = last_line(&output);
        assert!(line.starts_with(&format!("tulu-quant: error[{code}]: ")), "{code} at {part}: {line}");
        assert_eq!(output.status.code(), Some(*exit), "{line}");
        assert!(output.stdout.is_empty());
        check(&hub, &output);
    }
}

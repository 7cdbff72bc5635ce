//! What tests of downloads share: the demonstration checkpoint as a repository, and what must hold at the end of each.

use super::{CANARY, Server};
use crate::support::checkpoint::bundled;
use crate::support::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) const ID: &str = "allenai/tulu-tiny";

pub(crate) fn served() -> Server {
    let hub = Server::start();
    hub.add(ID, &bundled());
    hub
}

pub(crate) fn pull(hub: &Server) -> Output {
    run(hub.command().args(["pull", ID]), b"")
}

/// What every test ends with: no token where it does not belong, and nothing in the cache but whole, right files.
pub(crate) fn check(hub: &Server, output: &Output) {
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
            assert_eq!(fs::read(&file).unwrap(), fs::read(bundled().join(name)).unwrap(), "{path}");
        }
    }
}

pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

/// The folder that `pull` printed holds the whole checkpoint.
pub(crate) fn whole(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json", "README.md"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(bundled().join(name)).unwrap(), "{name}");
    }
}

/// Stdout and stderr.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

pub(crate) const QUESTION: [&str; 5] = ["-p", "What is the capital of France?", "--temp", "0", "--no-color"];

pub(crate) const ANSWER: &str = "The capital of France is Paris.\n";

pub(crate) fn ask(hub: &Server, args: &[&str]) -> Output {
    run(hub.command().arg("chat").args(args).args(QUESTION), b"")
}

pub(crate) fn assert_answered(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), ANSWER), "{said}");
    said
}

pub(crate) fn ggufs(hub: &Server) -> Vec<PathBuf> {
    let mut all = files_below(&hub.dir().join("cache"));
    all.retain(|path| path.extension().is_some_and(|end| end == "gguf"));
    all
}

pub(crate) fn same_env(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

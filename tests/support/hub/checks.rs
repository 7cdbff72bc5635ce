//! Helpers for tests with the hub: the bundled checkpoint as a repository, and checks for every command.

use super::{CANARY, Server};
use crate::support::checkpoint::bundled;
use crate::support::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository of the bundled checkpoint.
pub(crate) const ID: &str = "allenai/tulu-tiny";

/// Starts a hub that serves the bundled checkpoint.
pub(crate) fn served() -> Server {
    let hub = Server::start();
    hub.add(ID, &bundled());
    hub
}

/// Runs `pull` of [`ID`].
pub(crate) fn pull(hub: &Server) -> Output {
    run(hub.command().args(["pull", ID]), b"")
}

/// Asserts that the token was sent only to the hub and neither printed nor stored, and that the cache has only complete
/// and correct files.
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

/// All files below `dir`; none if it is missing.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

/// Asserts that the folder that `pull` printed has the complete checkpoint.
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

/// Arguments of `chat` for a question with a known answer.
pub(crate) const QUESTION: [&str; 5] = ["-p", "What is the capital of France?", "--temp", "0", "--no-color"];

/// The answer to [`QUESTION`].
pub(crate) const ANSWER: &str = "The capital of France is Paris.\n";

/// Runs `chat` with `args` and [`QUESTION`].
pub(crate) fn ask(hub: &Server, args: &[&str]) -> Output {
    run(hub.command().arg("chat").args(args).args(QUESTION), b"")
}

/// Asserts that stdout is [`ANSWER`]. Returns stderr.
pub(crate) fn assert_answered(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), ANSWER), "{said}");
    said
}

/// The GGUF files in the program's cache.
pub(crate) fn ggufs(hub: &Server) -> Vec<PathBuf> {
    let mut all = files_below(&hub.dir().join("cache"));
    all.retain(|path| path.extension().is_some_and(|end| end == "gguf"));
    all
}

/// Copies the changes of environment variables (set or removed) from the command `from` to `to`.
pub(crate) fn same_env(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

//! `--cache-dir`: the KV cache over restarts.

use crate::support::serve::Server;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const FLAGS: [&str; 4] = ["-np", "2", "-c", "1024"];

fn start(folder: &Path, more: &[&str]) -> Server {
    Server::start(&[&FLAGS[..], &["--cache-dir", folder.to_str().unwrap()], more].concat())
}

/// Ends the server as systemd does, and returns stderr.
fn stop(server: Server) -> String {
    server.terminate();
    let (code, text) = server.end();
    assert_eq!(code, Some(0), "{text}");
    text
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect();
    all.sort();
    all
}

/// A conversation about `topic`, after a long system message that all share.
fn talk(topic: &str) -> Vec<Value> {
    let system = format!("{} You know all about {topic}.", "Be brief, be kind, and never lie to anyone. ".repeat(12));
    vec![json!({"role": "system", "content": system}), json!({"role": "user", "content": format!("What is {topic}?")})]
}

/// Answers the conversation, and appends the answer. Returns the tokens of prompt and answer, and the cached ones.
fn turn(server: &Server, talk: &mut Vec<Value>) -> (u64, u64) {
    let body = json!({"messages": talk, "temperature": 0, "max_tokens": 20});
    let response = server.post("/v1/chat/completions", &body.to_string()).json();
    talk.push(json!({"role": "assistant", "content": response["choices"][0]["message"]["content"]}));
    let usage = &response["usage"];
    (usage["total_tokens"].as_u64().unwrap(), usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap())
}

#[test]
fn a_follow_up_after_a_restart_does_not_read_the_conversation_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("cache");
    let server = start(&folder, &[]);
    let mut talks = [talk("rain"), talk("snow"), talk("wind")];
    let tokens: Vec<u64> = talks.iter_mut().map(|talk| turn(&server, talk).0).collect();
    stop(server);
    assert_eq!(files(&folder).len(), 3);

    let server = start(&folder, &[]);
    for (talk, all) in talks.iter_mut().zip(&tokens) {
        talk.push(json!({"role": "user", "content": "And why?"}));
        let (_, cached) = turn(&server, talk);
        // The last token of the answer was not computed, and its end may be tokenized differently.
        assert!(cached + 4 >= *all, "{cached} of {all}");
    }
    // Their longer versions replace them, and the next start has the whole.
    stop(server);
    assert_eq!(files(&folder).len(), 3);
    let mut server = start(&folder, &[]);
    assert!(server.line_with("saved prompts").contains("3 saved prompts"));
    let (all, cached) = turn(&server, &mut talk("hail"));
    assert!(cached > 100 && cached < all, "a new conversation shares the system message: {cached} of {all}");
}

#[test]
fn the_files_are_private_and_a_kill_leaves_none_behind() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("a/b");
    let mut server = start(&cache, &[]);
    turn(&server, &mut talk("rain"));
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    drop(server);
    assert!(files(&cache).is_empty());
    let server = start(&cache, &[]);
    turn(&server, &mut talk("rain"));
    stop(server);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&cache), mode(&files(&cache)[0])), (0o700, 0o600));
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
        let output = crate::support::serve::command(&["--cache-dir", cache.to_str().unwrap()]).output().unwrap();
        crate::support::assert_error(&output, 2, "FLAGS", &["others can write"]);
    }
}

#[test]
fn a_file_that_cannot_be_used_is_ignored_with_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let mut first = talk("rain");
    turn(&server, &mut first);
    stop(server);
    let file = files(folder.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    first.push(json!({"role": "user", "content": "And why?"}));
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let mut empty = whole.clone();
    empty.truncate(0);
    for (bytes, why) in [
        (damaged, "its checksum is wrong"),
        (whole[..whole.len() - 100].to_vec(), "truncated"),
        (empty, "truncated"),
        (b"GGUF, and not a saved prompt at all".to_vec(), "not a KV cache file"),
    ] {
        fs::write(&file, bytes).unwrap();
        let mut server = start(folder.path(), &[]);
        let line = server.line_with("is not used");
        assert!(line.contains(why) && line.contains(".kv"), "{line}");
        let (_, cached) = turn(&server, &mut first.clone());
        assert_eq!(cached, 0);
    }
    // Files of other settings are others' files; one of them in our folder is recognized.
    fs::write(&file, &whole).unwrap();
    let server = start(folder.path(), &["-ctk", "q8_0", "-ctv", "q8_0"]);
    assert_eq!(turn(&server, &mut first.clone()).1, 0);
    assert!(!stop(server).contains("is not used"));
    let ours = files(folder.path()).into_iter().find(|other| other.parent() != file.parent()).unwrap();
    fs::copy(&file, ours.with_file_name("foreign.kv")).unwrap();
    fs::write(ours.with_file_name("notes.txt"), "not ours").unwrap();
    let mut server = start(folder.path(), &["-ctk", "q8_0", "-ctv", "q8_0"]);
    assert!(server.line_with("is not used").contains("another type of keys"));
    assert!(ours.with_file_name("notes.txt").exists());
}

#[test]
fn the_oldest_files_are_removed_above_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let mut talks = ["rain", "snow", "wind", "hail"].map(talk);
    for talk in &mut talks {
        turn(&server, talk);
    }
    stop(server);
    let size = fs::metadata(&files(folder.path())[0]).unwrap().len();
    let limit = (size * 5 / 2).to_string();
    let server = start(folder.path(), &["--cache-size", &limit]);
    stop(server);
    let left = files(folder.path());
    assert_eq!(left.len(), 2);
    assert!(left.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>() <= size * 5 / 2);
    // The newest stay.
    let server = start(folder.path(), &[]);
    for (i, talk) in talks.iter_mut().enumerate().rev() {
        talk.push(json!({"role": "user", "content": "And why?"}));
        let body = json!({"messages": talk, "temperature": 0, "max_tokens": 1}).to_string();
        let usage = server.post("/v1/chat/completions", &body).json()["usage"].clone();
        let new = usage["prompt_tokens"].as_u64().unwrap()
            - usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert_eq!(new < 24, i >= 2, "{i}: {new} new tokens");
    }
}

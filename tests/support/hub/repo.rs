//! Repositories of the fake hub: commits of files, and the two JSON documents that describe them.

use serde_json::{Value, json};
use sha1::Digest as _;
use std::sync::Arc;

/// A file at a commit.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) path: String,
    pub(super) bytes: Arc<Vec<u8>>,
    /// The sha256 of an LFS file, git's sha1 of any other.
    pub(super) hash: String,
    pub(super) lfs: bool,
}

/// Commits, oldest first; `main` is at the last.
#[derive(Default)]
pub(super) struct Repo(Vec<(String, Vec<Stored>)>);

impl Repo {
    /// Adds a commit with these files.
    pub(super) fn push(&mut self, files: Vec<(String, Vec<u8>)>) {
        let files: Vec<Stored> = files.into_iter().map(|(path, bytes)| stored(path, bytes)).collect();
        let all: String = files.iter().map(|f| format!("{} {}\n", f.path, f.hash)).collect();
        self.0.push((hex(&sha1::Sha1::digest(all)), files));
    }

    /// The commit of `main`.
    pub(super) fn head(&self) -> &str {
        &self.0.last().unwrap().0
    }

    /// Commit and files of a revision.
    pub(super) fn at(&self, revision: &str) -> Option<(String, &Vec<Stored>)> {
        // tags that begin with v1 also point to the head
        let wanted = if revision == "main" || revision.starts_with("v1") { self.head() } else { revision };
        self.0.iter().find(|(commit, _)| commit == wanted).map(|(commit, files)| (commit.clone(), files))
    }
}

fn stored(path: String, bytes: Vec<u8>) -> Stored {
    let lfs = [".safetensors", ".bin", ".model", ".gguf"].iter().any(|end| path.ends_with(end));
    let hash = if lfs {
        hex(&sha2::Sha256::digest(&bytes))
    } else {
        hex(&sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(&bytes).finalize())
    };
    Stored { path, bytes: Arc::new(bytes), hash, lfs }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `/api/models/ID/revision/REV?blobs=true`.
pub(super) fn listing(commit: &str, files: &[Stored], bare: bool, licence: &str) -> Value {
    let siblings: Vec<Value> = files
        .iter()
        .map(|f| match (bare, f.lfs) {
            (true, _) => json!({"rfilename": f.path}),
            (false, true) => {
                let lfs = json!({"sha256": f.hash, "size": f.bytes.len(), "pointerSize": 135});
                json!({"rfilename": f.path, "size": f.bytes.len(), "blobId": "0".repeat(40), "lfs": lfs})
            }
            (false, false) => json!({"rfilename": f.path, "size": f.bytes.len(), "blobId": f.hash}),
        })
        .collect();
    json!({"id": "x", "sha": commit, "gated": false, "cardData": {"license": licence}, "siblings": siblings})
}

/// `/api/models/ID/tree/COMMIT`.
pub(super) fn tree(files: &[Stored]) -> Value {
    let entry = |f: &Stored| {
        let lfs = f.lfs.then(|| json!({"oid": f.hash, "size": f.bytes.len(), "pointerSize": 135}));
        let git = if f.lfs { "0".repeat(40) } else { f.hash.clone() };
        let mut entry = json!({"type": "file", "path": f.path, "size": f.bytes.len(), "oid": git});
        lfs.into_iter().for_each(|lfs| entry["lfs"] = lfs);
        entry
    };
    Value::Array(files.iter().map(entry).collect())
}

//! A fake Hugging Face Hub on loopback: real sockets, the Hub's URLs and headers, and faults that tests can switch on.
//! The hub is on 127.0.0.1; Like the real Hub, it redirects LFS files to another host, 127.0.0.2. `fault.rs` defines
//! the faults, `http.rs` reads and writes the protocol.

pub(crate) mod checks;
mod fault;
mod http;
mod proxy;
mod repo;

pub(crate) use fault::Fault;
pub(crate) use proxy::Proxy;

use super::tulu_quant;
use http::{Reply, Request};
use repo::Repo;
use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

/// The token, which must be sent only to the hub.
pub(crate) const CANARY: &str = "hf_CANARYcanaryCANARYcanary";

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Hub,
    Cdn,
}

/// A request that a host received.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) host: Host,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct State {
    repos: HashMap<String, Repo>,
    faults: Vec<Fault>,
    seen: Vec<Seen>,
    /// Body bytes that were sent, by path.
    served: HashMap<String, u64>,
    /// Whether the first listing has no sizes and hashes, as on some mirrors.
    bare_listing: bool,
    no_etags: bool,
    /// The licence of the model cards, if it is not apache-2.0.
    licence: Option<String>,
}

/// The two hosts. They stop when the test program ends.
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    hub: String,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts both hosts on free ports, without repositories.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        // macOS has one address on loopback, with two names
        let (second, name) =
            if cfg!(target_os = "linux") { ("127.0.0.2:0", "127.0.0.2") } else { ("127.0.0.1:0", "localhost") };
        let [hub, cdn] = ["127.0.0.1:0", second].map(|at| TcpListener::bind(at).unwrap());
        let hub_url = format!("http://{}", hub.local_addr().unwrap());
        let cdn_url = format!("http://{name}:{}", cdn.local_addr().unwrap().port());
        for (listener, host) in [(hub, Host::Hub), (cdn, Host::Cdn)] {
            let (state, cdn_url) = (state.clone(), cdn_url.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, cdn_url) = (state.clone(), cdn_url.clone());
                    std::thread::spawn(move || talk(stream, host, &state, &cdn_url));
                }
            });
        }
        Self { state, hub: hub_url, dir: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Serves every file of `folder` as `id`. A second call adds a commit to `main`.
    pub(crate) fn add(&self, id: &str, folder: &Path) {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.path().is_file());
        let named = |e: std::fs::DirEntry| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap());
        self.add_files(id, files.map(named).collect());
    }

    /// Serves these files as `id`.
    pub(crate) fn add_files(&self, id: &str, files: Vec<(String, Vec<u8>)>) {
        self.state().repos.entry(id.to_owned()).or_default().push(files);
    }

    /// The commit of the branch `main`.
    pub(crate) fn commit(&self, id: &str) -> String {
        self.state().repos[id].head().to_owned()
    }

    /// Adds a fault.
    pub(crate) fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Removes all faults, and forgets all requests and counts.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.seen.clear();
        state.served.clear();
    }

    /// Removes all faults.
    pub(crate) fn mend(&self) {
        self.state().faults.clear();
    }

    /// Omits sizes and hashes from the first listing; the tree has them.
    pub(crate) fn bare_listing(&self) {
        self.state().bare_listing = true;
    }

    /// Sets the licence of every listing.
    pub(crate) fn licence(&self, text: &str) {
        self.state().licence = Some(text.to_owned());
    }

    /// Omits the ETag from now on.
    pub(crate) fn no_etags(&self) {
        self.state().no_etags = true;
    }

    /// Body bytes that were sent for paths that contain `part`.
    pub(crate) fn served(&self, part: &str) -> u64 {
        self.state().served.iter().filter(|(path, _)| path.contains(part)).map(|(_, n)| n).sum()
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// All requests to the other host.
    pub(crate) fn cdn_requests(&self) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.host == Host::Cdn).collect()
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        &self.hub
    }

    /// The folder with `hub/`, the shared cache, and `cache/`, the program's own.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program with this hub, empty caches and a token.
    pub(crate) fn command(&self) -> Command {
        let mut command = tulu_quant();
        let prefixes = ["HF_", "HUGGING", "TRANSFORMERS_", "SSL_CERT"];
        for (name, _) in std::env::vars() {
            if prefixes.iter().any(|p| name.starts_with(p)) || name.to_uppercase().ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command.env("HF_ENDPOINT", format!("{}/", self.hub)).env("HF_TOKEN", CANARY);
        command.env("HF_HOME", self.dir().join("home")).env("HF_HUB_CACHE", self.dir().join("hub"));
        command.env("TULU_QUANT_CACHE", self.dir().join("cache")).env("TULU_QUANT_HUB_TRIES", "3");
        command
    }
}

/// Replies to the requests of one connection.
fn talk(stream: TcpStream, host: Host, state: &Mutex<State>, cdn: &str) {
    let mut stream = http::Connection::new(stream);
    while let Some(request) = stream.request() {
        let reply = answer(&request, host, &mut state.lock().unwrap(), cdn);
        let (sent, open) = stream.send(&reply, request.method == "HEAD");
        *state.lock().unwrap().served.entry(request.path.clone()).or_default() += sent;
        if !open {
            return;
        }
    }
    stream.refuse();
}

fn answer(request: &Request, host: Host, state: &mut State, cdn: &str) -> Reply {
    let path = request.path.split('?').next().unwrap();
    state.seen.push(Seen { host, path: request.path.clone(), authorization: request.header("authorization") });
    if let Some(fault) = Fault::take(&mut state.faults, host, path, Fault::is_answer) {
        return fault.answer();
    }
    let mut parts = path.trim_start_matches('/').splitn(5, '/').collect::<Vec<_>>();
    let api = parts.first() == Some(&"api");
    if api {
        parts = path.trim_start_matches("/api/models/").splitn(4, '/').collect();
    }
    let [owner, name, verb, rest @ ..] = parts.as_slice() else { return Reply::error(404, "RepoNotFound") };
    let Some(repo) = state.repos.get(&format!("{owner}/{name}")) else { return Reply::error(404, "RepoNotFound") };
    let revision = rest.first().copied().unwrap_or_default();
    let Some((commit, files)) = repo.at(revision) else { return Reply::error(404, "RevisionNotFound") };
    match (*verb, rest) {
        ("revision", _) if api => {
            let licence = state.licence.as_deref().unwrap_or("apache-2.0");
            Reply::json(&repo::listing(&commit, files, state.bare_listing, licence))
        }
        ("tree", _) if api => Reply::json(&repo::tree(files)),
        ("resolve", [_, file]) => {
            let Some(found) = files.iter().find(|f| f.path == *file) else { return Reply::error(404, "EntryNotFound") };
            let etag = if found.lfs { "X-Linked-Etag" } else { "ETag" };
            let mut reply = if found.lfs && host == Host::Hub {
                let to = format!("{cdn}/{owner}/{name}/resolve/{commit}/{file}?X-Signature=abc");
                Reply::redirect(&to).with("X-Linked-Size", &found.bytes.len().to_string())
            } else {
                let range = request.header("range");
                let fault = Fault::take(&mut state.faults, host, path, |f| !f.is_answer());
                fault.map_or_else(
                    || http::data(&found.bytes, range.as_deref()),
                    |f| f.data(&found.bytes, range.as_deref()),
                )
            };
            if host == Host::Hub && !state.no_etags {
                reply = reply.with(etag, &format!("\"{}\"", found.hash)).with("X-Repo-Commit", &commit);
            }
            reply
        }
        _ => Reply::error(404, "EntryNotFound"),
    }
}

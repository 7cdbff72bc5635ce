//! Streaming conversion from a fake server that counts requests, can fail and can send wrong bytes. This file has the
//! server and the helper for one case; the tests are in the modules.

mod damage;
mod outputs;
mod resume;

use crate::fixtures;
use crate::support::{listing, options, sha256};
use std::collections::HashMap;
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tulu_quantize::{
    Checkpoint, ConvertOptions, Error, Ftype, Observer, Plan, QuantizeOptions, RangeSource, RemoteCheckpoint,
    RemoteFile, Report, Silent, StreamOptions, convert, convert_streaming,
};

const REPOSITORY: &str = "owner/little";
const REVISION: &str = "0123456789012345678901234567890123456789";
const TYPES: [Ftype; 2] = [Ftype::Q4_0, Ftype::Q8_0];

/// A server that passes files to the sink, a few hundred bytes at a time.
#[derive(Debug, Default)]
struct Server {
    files: HashMap<String, Vec<u8>>,
    /// (file, range) of every request.
    requests: Mutex<Vec<(String, Range<u64>)>>,
    given: AtomicU64,
    /// Number of requests before it fails; `usize::MAX`: it never fails.
    fail_after: AtomicUsize,
    /// Number of requests of weights (long requests) before it fails.
    fail_after_long: AtomicUsize,
    /// Milliseconds that a long request takes.
    slow: AtomicU64,
    /// File and offset of a byte whose lowest bit is flipped.
    corrupt: Mutex<Option<(String, u64)>>,
    /// Wrong contents of files, served until the first request of weights.
    lies: Mutex<HashMap<String, Vec<u8>>>,
    /// Bytes of the current requests, and the maximum so far.
    flying: AtomicU64,
    most_flying: AtomicU64,
}

impl RangeSource for Server {
    fn fetch(
        &self,
        name: &str,
        range: Range<u64>,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let spent =
            |left: &AtomicUsize| left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err();
        let long = range.end - range.start > 150_000;
        if long {
            std::thread::sleep(Duration::from_millis(self.slow.load(Ordering::SeqCst)));
        }
        if spent(&self.fail_after) || (long && spent(&self.fail_after_long)) {
            return Err(Error::fetch(name, "the line is dead", "plug it in"));
        }
        self.requests.lock().unwrap().push((name.to_owned(), range.clone()));
        let corrupt = self.corrupt.lock().unwrap().clone();
        if long {
            self.lies.lock().unwrap().clear();
        }
        let lie = self.lies.lock().unwrap().get(name).cloned();
        let whole = lie.as_ref().unwrap_or(&self.files[name]);
        let mut bytes = whole[range.start as usize..range.end as usize].to_vec();
        if let Some((file, at)) = corrupt
            && file == name
            && range.contains(&at)
        {
            bytes[(at - range.start) as usize] ^= 1;
        }
        let flying = self.flying.fetch_add(bytes.len() as u64, Ordering::SeqCst) + bytes.len() as u64;
        self.most_flying.fetch_max(flying, Ordering::SeqCst);
        let done = bytes.chunks(700).try_for_each(|part| {
            self.given.fetch_add(part.len() as u64, Ordering::SeqCst);
            sink(part)
        });
        self.flying.fetch_sub(bytes.len() as u64, Ordering::SeqCst);
        done
    }
}

/// A served checkpoint, its small files on disk, and the expected files, converted from the whole folder.
struct Case {
    _dir: TempDir,
    small: PathBuf,
    out: PathBuf,
    server: Arc<Server>,
    remote: RemoteCheckpoint,
    wanted: Vec<Vec<u8>>,
}

fn outputs(dir: &Path) -> Vec<(Ftype, PathBuf)> {
    TYPES.iter().map(|t| (*t, dir.join(format!("little-{t}.gguf")))).collect()
}

impl Case {
    fn new(write: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // the layout of the shared cache, because it records repository, revision and hashes like a server's listing
        let root = dir.path().join("models--owner--little");
        let (whole, blobs) = (root.join("snapshots").join(REVISION), root.join("blobs"));
        write(&whole);
        fs::create_dir_all(&blobs).unwrap();
        let (small, local, out) = (dir.path().join("small"), dir.path().join("local"), dir.path().join("out"));
        for folder in [&small, &local, &out] {
            fs::create_dir_all(folder).unwrap();
        }
        let mut files = HashMap::new();
        let mut listed = Vec::new();
        for entry in fs::read_dir(&whole).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".safetensors") && !name.ends_with(".bin") {
                fs::copy(&path, small.join(&name)).unwrap();
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let sha256 = sha256(&bytes);
            fs::rename(&path, blobs.join(&sha256)).unwrap();
            std::os::unix::fs::symlink(format!("../../blobs/{sha256}"), &path).unwrap();
            listed.push(RemoteFile { name: name.clone(), len: bytes.len() as u64, sha256 });
            files.insert(name, bytes);
        }
        let source = Checkpoint::open(&whole).unwrap();
        let plan = Plan::new(&source, &outputs(&local), &QuantizeOptions::default()).unwrap();
        convert(&source, &plan, options(3), &Silent).unwrap();
        let wanted = outputs(&local).iter().map(|(_, path)| fs::read(path).unwrap()).collect();
        let server = Arc::new(Server {
            files,
            fail_after: AtomicUsize::new(usize::MAX),
            fail_after_long: AtomicUsize::new(usize::MAX),
            ..Server::default()
        });
        let remote = RemoteCheckpoint::new(server.clone(), REPOSITORY, REVISION, listed);
        Self { _dir: dir, small, out, server, remote, wanted }
    }

    fn safetensors() -> Self {
        Self::new(|dir| fixtures::Checkpoint { shards: 3, ..Default::default() }.write(dir))
    }

    fn bin() -> Self {
        Self::new(|dir| {
            fs::create_dir_all(dir).unwrap();
            fixtures::Checkpoint { shards: 3, ..Default::default() }.write_bin(dir);
        })
    }

    fn stream_options(&self) -> StreamOptions {
        let journal = self.out.join("little.tulu-journal");
        let connections = NonZeroUsize::new(4).unwrap();
        StreamOptions { journal, connections, segment_bytes: 100_000, buffer_bytes: 3_000_000, entry_bytes: 200_000 }
    }

    fn run_with(&self, options: ConvertOptions, observer: &dyn Observer) -> Result<Report, Error> {
        let source = Checkpoint::open_with(&self.small, &self.remote)?;
        let plan = Plan::new(&source, &outputs(&self.out), &QuantizeOptions::default())?;
        convert_streaming(&source, &plan, &self.remote, options, &self.stream_options(), observer)
    }

    fn run(&self) -> Result<Report, Error> {
        self.run_with(options(3), &Silent)
    }

    fn total(&self) -> u64 {
        self.server.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    fn given(&self) -> u64 {
        self.server.given.swap(0, Ordering::SeqCst)
    }

    fn names(&self) -> Vec<String> {
        listing(&self.out)
    }

    /// The partial files, in the order of the outputs.
    fn parts(&self) -> Vec<PathBuf> {
        let names = self.names();
        let part = |(_, path): &(Ftype, PathBuf)| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let mut found = names.iter().filter(|n| n.starts_with(name) && n.ends_with(".tulu-part"));
            let part = self.out.join(found.next().unwrap());
            assert_eq!(found.next(), None);
            part
        };
        outputs(&self.out).iter().map(part).collect()
    }

    /// Asserts that there are the complete outputs and no other file.
    fn is_done(&self) {
        assert_eq!(self.names(), ["little-Q4_0.gguf", "little-Q8_0.gguf"]);
        for ((_, path), wanted) in outputs(&self.out).iter().zip(&self.wanted) {
            assert!(fs::read(path).unwrap() == *wanted, "{} differs", path.display());
        }
    }

    /// Asserts that no output has its final name.
    fn is_not_done(&self) {
        assert!(!self.names().iter().any(|name| name.ends_with(".gguf")), "{:?}", self.names());
    }
}

/// Maximum bytes of each file that opening it reads in addition to the weights.
const AROUND: u64 = 200_000;

/// Collects the notes.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Observer for Notes {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// A case that was stopped in the middle.
fn stopped() -> Case {
    let case = Case::safetensors();
    case.server.slow.store(100, Ordering::SeqCst);
    case.server.fail_after_long.store(10, Ordering::SeqCst);
    case.run().unwrap_err();
    case.server.fail_after_long.store(usize::MAX, Ordering::SeqCst);
    case.server.slow.store(0, Ordering::SeqCst);
    assert!(case.stream_options().journal.exists());
    case
}

//! `verify` of a checkpoint folder: hashes every file whose hash is recorded in the folder, then checks the weights.
//!
//! Recorded hashes: in the Hugging Face cache, the name of the blob that a file links to; in a folder that
//! `hf download --local-dir` wrote, the etag in `.cache/huggingface/download/FILE.metadata`. It is the sha256 of a large
//! file, or git's sha1 of a small one.

use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::hub::FileHash;
use crate::sanitize::{one_line, shown};
use crate::table::{self, Align};
use crate::watch::Watch;
use serde_json::json;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tulu_quantize::{Checkpoint, Class, Code, Observer as _, verify_checkpoint};

/// A file of the folder, its recorded hash, and the problems found.
struct CheckedFile {
    path: PathBuf,
    bytes: u64,
    hash: Option<FileHash>,
    problems: Vec<String>,
}

/// Runs the subcommand on the folder `dir`.
pub(super) fn run(dir: &Path, n_threads: NonZeroUsize, as_json: bool, interrupt: &Interrupt) -> Result<Exit, Failure> {
    let mut files = list(dir)?;
    let known = files.iter().filter(|file| file.hash.is_some()).map(|file| file.bytes);
    let total = files.iter().map(|file| file.bytes).chain(known).fold(0, u64::saturating_add);
    let watch = Watch::new("verifying", total, interrupt);
    let done =
        hash_all(&mut files, n_threads.get(), &watch).and_then(|()| check_weights(dir, &mut files, n_threads, &watch));
    watch.clear();
    let notes = done.map_err(|failure| Failure { exit: interrupt.asked().unwrap_or(failure.exit), ..failure })?;
    let good = files.iter().all(|file| file.problems.is_empty());
    crate::stdout::print(&if as_json { to_json(&files, &notes) } else { report(dir, &files, &notes) })?;
    Ok(if good { Exit::Done } else { Exit::Partial })
}

/// Lists the files of the folder with their recorded hashes.
fn list(dir: &Path) -> Result<Vec<CheckedFile>, Failure> {
    let io = |err: std::io::Error| Failure::io(dir, "cannot list the folder", &err);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let (bytes, problems) = match fs::metadata(&path) {
            Ok(found) if found.is_file() => (found.len(), Vec::new()),
            Ok(_) => continue,
            Err(err) if err.kind() == ErrorKind::NotFound => (0, vec!["is a symlink to a missing file".to_owned()]),
            Err(err) => return Err(Failure::io(&path, "cannot access the file", &err)),
        };
        let hash = expected(dir, &path)?;
        files.push(CheckedFile { path, bytes, hash, problems });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Returns the recorded hash of a file, if there is one.
fn expected(dir: &Path, path: &Path) -> Result<Option<FileHash>, Failure> {
    let hash = |text: &str| match text.len() {
        64 if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => Some(FileHash::Sha256(text.to_lowercase())),
        40 if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => Some(FileHash::GitSha1(text.to_lowercase())),
        _ => None,
    };
    if let Ok(link) = fs::read_link(path) {
        let in_blobs = link.parent().and_then(Path::file_name).is_some_and(|parent| parent == "blobs");
        let blob = link.file_name().and_then(|name| name.to_str()).filter(|_| in_blobs);
        if let Some(known) = blob.and_then(hash) {
            return Ok(Some(known));
        }
    }
    let Some(name) = path.file_name() else { return Ok(None) };
    let mut kept = name.to_owned();
    kept.push(".metadata");
    let kept = dir.join(".cache/huggingface/download").join(kept);
    match fs::read_to_string(&kept) {
        // three lines: commit, etag, time
        Ok(text) => Ok(text.lines().nth(1).and_then(|line| hash(line.trim().trim_matches('"')))),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(err) => Err(Failure::io(&kept, "cannot read the file", &err)),
    }
}

/// Hashes the files that have a recorded hash, several at once, each on one thread.
fn hash_all(files: &mut [CheckedFile], n_threads: usize, watch: &Watch) -> Result<(), Failure> {
    let jobs: Vec<Mutex<&mut CheckedFile>> = files.iter_mut().map(Mutex::new).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut file = job.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(failure) = hash_one(&mut file, watch) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..n_threads.min(jobs.len()) {
            // if no further thread can be started, this one does the rest
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn hash_one(checked: &mut CheckedFile, watch: &Watch) -> Result<(), Failure> {
    let Some(hash) = checked.hash.as_ref().filter(|_| checked.problems.is_empty()) else { return Ok(()) };
    let io = |err: std::io::Error| Failure::io(&checked.path, "cannot read the file", &err);
    let name = checked.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = File::open(&checked.path).map_err(io)?;
    let (mut checker, mut block) = (hash.checker(checked.bytes), vec![0; 1 << 20]);
    loop {
        if watch.cancelled() {
            return Err(Failure::interrupted());
        }
        match file.read(&mut block).map_err(io)? {
            0 => break,
            n => {
                checker.update(&block[..n]);
                watch.advanced(&name, n as u64);
            }
        }
    }
    if let Err(found) = checker.finish() {
        checked.problems.push(format!("has the {} {found}, not {}", hash.kind(), hash.hex()));
    }
    Ok(())
}

/// Opens the checkpoint and checks every weight. Adds problems to their files; returns notes.
fn check_weights(
    dir: &Path,
    files: &mut Vec<CheckedFile>,
    n_threads: NonZeroUsize,
    watch: &Watch,
) -> Result<Vec<String>, Failure> {
    let sound = files.iter().all(|file| file.problems.is_empty());
    let mut put = |path: &Path, what: String| match files.iter_mut().find(|file| file.path == path) {
        Some(file) => file.problems.push(what),
        None => files.push(CheckedFile { path: path.to_owned(), bytes: 0, hash: None, problems: vec![what] }),
    };
    let found = Checkpoint::open(dir).and_then(|source| {
        let found = verify_checkpoint(&source, n_threads, watch)?;
        Ok((source.notes, found))
    });
    match found {
        Ok((notes, found)) => {
            for file in found {
                file.problems.into_iter().for_each(|what| put(&file.path, what));
            }
            Ok(notes)
        }
        // errors about the argument, not damage
        Err(err)
            if sound && matches!(err.code, Code::NotFound | Code::NotAFile | Code::NoWeights | Code::Architecture) =>
        {
            Err(err.into())
        }
        Err(err) if err.code.class() == Class::Input => {
            put(&err.file, err.what);
            Ok(Vec::new())
        }
        Err(err) => Err(err.into()),
    }
}

fn name(file: &CheckedFile) -> String {
    one_line(&file.path.file_name().unwrap_or_default().to_string_lossy())
}

fn report(dir: &Path, files: &[CheckedFile], notes: &[String]) -> String {
    let mut rows = vec![["file", "bytes", "hash"].map(str::to_owned).to_vec()];
    rows.extend(files.iter().map(|file| {
        let hash = file.hash.as_ref().map_or("not known".to_owned(), |hash| format!("{} {}", hash.kind(), hash.hex()));
        vec![name(file), file.bytes.to_string(), hash]
    }));
    let table = table::render(&[Align::Left, Align::Right, Align::Left], &rows);
    let mut out = format!("{}\n{table}", shown(dir));
    for note in notes {
        out += &format!("  note: {}\n", one_line(note));
    }
    if files.iter().all(|file| file.hash.is_none()) {
        out += "  note: the folder records no hashes: only structure and weights were checked\n";
    }
    for (file, problem) in files.iter().flat_map(|file| file.problems.iter().map(move |problem| (file, problem))) {
        out += &format!("  WRONG: {}: {}\n", name(file), one_line(problem));
    }
    let good = files.iter().all(|file| file.problems.is_empty());
    out += if good {
        "  nothing is wrong\n"
    } else {
        "  the checkpoint is damaged: download the files named above again\n"
    };
    out
}

fn to_json(files: &[CheckedFile], notes: &[String]) -> String {
    let all: Vec<_> = files
        .iter()
        .map(|file| {
            let hash = file.hash.as_ref().map(|hash| json!({"kind": hash.kind(), "hex": hash.hex()}));
            json!({"path": file.path.to_string_lossy(), "bytes": file.bytes, "hash": hash, "problems": file.problems})
        })
        .collect();
    let good = files.iter().all(|file| file.problems.is_empty());
    json!({"good": good, "files": all, "notes": notes}).to_string() + "\n"
}

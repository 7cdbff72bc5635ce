//! Weights that arrive piece by piece, from a supply that counts, fails and lies: the files are those of a conversion from
//! the folder, memory and requests are bounded, and whatever ends a run, the next one goes on.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod made;

use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tulu_quantize::{
    Checkpoint, Code, ConvertOptions, Error, Ftype, Observer, Plan, QuantizeOptions, RangeSource, RemoteCheckpoint,
    RemoteFile, Report, Silent, StreamOptions, can_stream, convert, convert_streaming, stream_memory,
};

const REPOSITORY: &str = "owner/little";
const REVISION: &str = "0123456789012345678901234567890123456789";
const TYPES: [Ftype; 2] = [Ftype::Q4_0, Ftype::Q8_0];

/// Gives the bytes of a folder, a few hundred at a time.
#[derive(Debug, Default)]
struct Server {
    files: HashMap<String, Vec<u8>>,
    /// (file, range) of every request.
    requests: Mutex<Vec<(String, Range<u64>)>>,
    given: AtomicU64,
    /// Requests before it fails; `usize::MAX` for never.
    fail_after: AtomicUsize,
    /// The same for requests of weights, which are long.
    fail_after_long: AtomicUsize,
    /// Milliseconds that a long request takes.
    slow: AtomicU64,
    /// Turns a byte of this file, here.
    corrupt: Mutex<Option<(String, u64)>>,
    /// Another content of files, which is given until weights are asked for.
    lies: Mutex<HashMap<String, Vec<u8>>>,
    /// Bytes given and not yet taken by anybody, at most.
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

/// A checkpoint that is served, what is on this disk of it, and what a conversion of the whole folder makes.
struct Case {
    _dir: TempDir,
    small: PathBuf,
    out: PathBuf,
    server: Arc<Server>,
    distant: RemoteCheckpoint,
    wanted: Vec<Vec<u8>>,
}

fn options() -> ConvertOptions {
    ConvertOptions { threads: NonZeroUsize::new(3).unwrap(), replace: false, reference_kernels: false }
}

fn outputs(dir: &Path) -> Vec<(Ftype, PathBuf)> {
    TYPES.iter().map(|t| (*t, dir.join(format!("little-{t}.gguf")))).collect()
}

impl Case {
    fn new(write: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // the layout of the shared cache, so that the folder tells repository, revision and hashes as a listing does
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
            let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            fs::rename(&path, blobs.join(&sha256)).unwrap();
            std::os::unix::fs::symlink(format!("../../blobs/{sha256}"), &path).unwrap();
            listed.push(RemoteFile { name: name.clone(), len: bytes.len() as u64, sha256 });
            files.insert(name, bytes);
        }
        let source = Checkpoint::open(&whole).unwrap();
        let plan = Plan::new(&source, &outputs(&local), &QuantizeOptions::default()).unwrap();
        convert(&source, &plan, options(), &Silent).unwrap();
        let wanted = outputs(&local).iter().map(|(_, path)| fs::read(path).unwrap()).collect();
        let server = Arc::new(Server {
            files,
            fail_after: AtomicUsize::new(usize::MAX),
            fail_after_long: AtomicUsize::new(usize::MAX),
            ..Server::default()
        });
        let distant = RemoteCheckpoint::new(server.clone(), REPOSITORY, REVISION, listed);
        Self { _dir: dir, small, out, server, distant, wanted }
    }

    fn safetensors() -> Self {
        Self::new(|dir| made::Checkpoint { shards: 3, ..Default::default() }.write(dir))
    }

    fn bin() -> Self {
        Self::new(|dir| {
            fs::create_dir_all(dir).unwrap();
            made::Checkpoint { shards: 3, ..Default::default() }.write_bin(dir);
        })
    }

    fn arrival(&self) -> StreamOptions {
        let journal = self.out.join("little.tulu-journal");
        let connections = NonZeroUsize::new(4).unwrap();
        StreamOptions { journal, connections, segment: 100_000, buffer: 3_000_000, entry: 200_000 }
    }

    fn run_with(&self, options: ConvertOptions, observer: &dyn Observer) -> Result<Report, Error> {
        let source = Checkpoint::open_with(&self.small, &self.distant)?;
        let plan = Plan::new(&source, &outputs(&self.out), &QuantizeOptions::default())?;
        convert_streaming(&source, &plan, &self.distant, options, &self.arrival(), observer)
    }

    fn run(&self) -> Result<Report, Error> {
        self.run_with(options(), &Silent)
    }

    fn total(&self) -> u64 {
        self.server.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    fn given(&self) -> u64 {
        self.server.given.swap(0, Ordering::SeqCst)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.out).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What the outputs are called while they are made, in their order.
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

    /// The outputs are there, whole, and nothing else.
    fn is_done(&self) {
        assert_eq!(self.names(), ["little-Q4_0.gguf", "little-Q8_0.gguf"]);
        for ((_, path), wanted) in outputs(&self.out).iter().zip(&self.wanted) {
            assert!(fs::read(path).unwrap() == *wanted, "{} differs", path.display());
        }
    }

    /// No output has its name.
    fn is_not_done(&self) {
        assert!(!self.names().iter().any(|name| name.ends_with(".gguf")), "{:?}", self.names());
    }
}

/// What opening may read of each file beside the weights.
const AROUND: u64 = 200_000;

#[test]
fn what_arrives_is_converted_as_from_the_folder_and_nothing_is_fetched_twice() {
    for case in [Case::safetensors(), Case::bin()] {
        let report = case.run().unwrap();
        case.is_done();
        assert_eq!(report.written, case.wanted.iter().map(|file| file.len() as u64).sum::<u64>());
        let given = case.given();
        let most = case.total() + AROUND * case.server.files.len() as u64;
        assert!(given >= case.total() && given <= most, "{given} of {} bytes", case.total());
        let requests = case.server.requests.lock().unwrap();
        assert!(requests.len() > 12, "{} requests", requests.len());
        let most = case.server.most_flying.load(Ordering::SeqCst);
        assert!(most <= stream_memory(&case.arrival()), "{most} bytes at once");
    }
}

#[test]
fn a_line_that_dies_anywhere_is_gone_on_with() {
    let case = Case::safetensors();
    let mut died = 0;
    // every number of requests up to all of them
    for requests in (0..).step_by(3) {
        case.server.fail_after.store(requests, Ordering::SeqCst);
        match case.run() {
            Ok(_) => break,
            Err(err) => {
                assert_eq!((err.code, err.what.as_str()), (Code::Fetch, "the line is dead"), "{err}");
                case.is_not_done();
                died += 1;
            }
        }
        case.server.fail_after.store(usize::MAX, Ordering::SeqCst);
    }
    assert!(died > 3);
    case.is_done();
}

#[test]
fn what_was_entered_is_not_fetched_again() {
    for case in [Case::safetensors(), Case::bin()] {
        let (mut runs, mut given) = (0, 0);
        loop {
            runs += 1;
            assert!(runs < 100, "no progress");
            case.server.fail_after_long.store(6, Ordering::SeqCst);
            let done = case.run();
            given += case.given();
            if done.is_ok() {
                break;
            }
        }
        case.is_done();
        assert!(runs >= 3, "{runs} runs");
        // each run loses at most what is in the window, and opens each file again
        let lost = runs * (case.arrival().buffer + AROUND * case.server.files.len() as u64);
        assert!(given <= case.total() + lost, "{given} bytes for {} in {runs} runs", case.total());
    }
}

/// Stops after so many chunks.
struct StopAfter(AtomicUsize, AtomicBool);

impl Observer for StopAfter {
    fn advanced(&self, _tensor: &str, _bytes: u64) {
        if self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err() {
            self.1.store(true, Ordering::SeqCst);
        }
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

#[test]
fn a_run_that_was_stopped_is_gone_on_with() {
    let case = Case::bin();
    let err = case.run_with(options(), &StopAfter(AtomicUsize::new(20), AtomicBool::new(false))).unwrap_err();
    assert_eq!(err.code, Code::Interrupted);
    let parts = case.parts();
    assert_eq!(case.names().len(), 3, "{:?}", case.names());
    assert!(parts.iter().all(|part| part.exists()) && case.arrival().journal.exists());
    case.given();
    case.run().unwrap();
    case.is_done();
    assert!(case.given() < case.total(), "something was kept");
}

#[test]
fn a_byte_that_changed_on_the_way_is_found_and_only_its_file_is_fetched_again() {
    for (case, ending) in [(Case::safetensors(), ".safetensors"), (Case::bin(), ".bin")] {
        let mut names: Vec<&String> = case.server.files.keys().collect();
        names.sort();
        let (second, len) = (names[1].clone(), case.server.files[names[1]].len() as u64);
        assert!(second.ends_with(ending));
        // a low bit of a weight in the middle: the number is a number, so only the hash can tell
        *case.server.corrupt.lock().unwrap() = Some((second.clone(), len / 2));
        let err = case.run().unwrap_err();
        assert!(matches!(err.code, Code::Sha256 | Code::ZipCrc), "{err}");
        assert!(err.file.ends_with(&second) && !err.to_string().contains('\n'), "{err}");
        case.is_not_done();
        *case.server.corrupt.lock().unwrap() = None;
        case.server.requests.lock().unwrap().clear();
        case.run().unwrap();
        case.is_done();
        let requests = case.server.requests.lock().unwrap();
        let of = |name: &String| requests.iter().filter(|(n, _)| n == name).map(|(_, r)| r.end - r.start).sum::<u64>();
        assert!(of(&second) >= len, "the file in doubt is fetched anew");
        assert!(of(names[0]) <= AROUND, "the one before it is not: {}", of(names[0]));
    }
}

#[test]
fn a_byte_that_changed_in_the_first_file_leaves_nothing() {
    let case = Case::safetensors();
    let mut names: Vec<&String> = case.server.files.keys().collect();
    names.sort();
    let len = case.server.files[names[0]].len() as u64;
    *case.server.corrupt.lock().unwrap() = Some((names[0].clone(), len - 2));
    let err = case.run().unwrap_err();
    assert_eq!(err.code, Code::Sha256, "{err}");
    assert!(case.names().is_empty(), "{:?}", case.names());
}

/// Swaps the names of two matrices of one shape in the header of `file`; all offsets stay right.
fn swapped(file: &[u8]) -> Vec<u8> {
    let [q, o] = [&b"layers.0.self_attn.q_proj"[..], b"layers.0.self_attn.o_proj"];
    let at = |name: &[u8]| file.windows(name.len()).position(|part| part == name).unwrap();
    let (mut bytes, places) = (file.to_vec(), [at(q), at(o)]);
    bytes[places[0]..][..o.len()].copy_from_slice(o);
    bytes[places[1]..][..q.len()].copy_from_slice(q);
    bytes
}

/// [`swapped`] in the pickle of a `.bin` file, with its CRC32 made right wherever it stands.
fn swapped_in_pickle(file: &[u8]) -> Vec<u8> {
    let end = file.windows(3).position(|part| part == b"u.P").unwrap() + 2;
    let begin = file.windows(3).position(|part| part == b"\x80\x02c").unwrap();
    let mut bytes = swapped(file);
    let [old, new] = [file, &bytes].map(|all| crc32fast::hash(&all[begin..end]).to_le_bytes());
    let places: Vec<usize> = (0..bytes.len() - 3).filter(|at| bytes[*at..*at + 4] == old).collect();
    assert_eq!(places.len(), 2, "behind the member and in the directory");
    places.iter().for_each(|at| bytes[*at..*at + 4].copy_from_slice(&new));
    bytes
}

#[test]
fn a_header_that_was_not_the_files_own_is_found_although_every_sum_is_right() {
    type Lie = fn(&[u8]) -> Vec<u8>;
    for (case, lie) in [(Case::safetensors(), swapped as Lie), (Case::bin(), swapped_in_pickle)] {
        let has_it = |bytes: &[u8]| bytes.windows(25).any(|part| part == b"layers.0.self_attn.q_proj");
        let (name, bytes) = case.server.files.iter().find(|(_, bytes)| has_it(bytes)).unwrap();
        case.server.lies.lock().unwrap().insert(name.clone(), lie(bytes));
        let err = case.run().unwrap_err();
        assert_eq!(err.code, Code::Sha256, "{err}");
        assert!(err.file.ends_with(name) && err.what.contains("came differently"), "{err}");
        case.is_not_done();
        case.run().unwrap();
        case.is_done();
    }
}

/// The run that believed the lie was stopped before the file that had it was complete.
#[test]
fn nothing_that_was_converted_by_a_wrong_header_is_gone_on_with() {
    for (case, lie) in [(Case::safetensors(), swapped as fn(&[u8]) -> Vec<u8>), (Case::bin(), swapped_in_pickle)] {
        let mut names: Vec<&String> = case.server.files.keys().collect();
        names.sort();
        let first = names[0].clone();
        case.server.slow.store(20, Ordering::SeqCst);
        for requests in [3, 6, 9] {
            let bytes = &case.server.files[&first];
            case.server.lies.lock().unwrap().insert(first.clone(), lie(bytes));
            case.server.fail_after_long.store(requests, Ordering::SeqCst);
            case.run().unwrap_err();
            case.is_not_done();
        }
        case.server.fail_after_long.store(usize::MAX, Ordering::SeqCst);
        case.server.slow.store(0, Ordering::SeqCst);
        case.server.lies.lock().unwrap().clear();
        case.run().unwrap();
        case.is_done();
    }
}

/// Keeps the notes.
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
    assert!(case.arrival().journal.exists());
    case
}

#[test]
fn the_journal_cut_at_any_byte_is_gone_on_with_and_a_damaged_one_begins_anew() {
    let case = stopped();
    let journal = fs::read(case.arrival().journal).unwrap();
    let parts = case.parts();
    let kept: Vec<_> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
    let lines = journal.iter().filter(|b| **b == b'\n').count();
    assert!(lines >= 3, "{lines} lines");
    let again = |bytes: &[u8]| {
        outputs(&case.out).iter().for_each(|(_, path)| drop(fs::remove_file(path)));
        parts.iter().zip(&kept).for_each(|(part, bytes)| fs::write(part, bytes).unwrap());
        fs::write(case.arrival().journal, bytes).unwrap();
        let notes = Notes::default();
        case.run_with(options(), &notes).unwrap();
        case.is_done();
        notes.0.into_inner().unwrap()
    };
    for cut in [0, 1, journal.len() / 3, journal.len() / 2, journal.len() - 20, journal.len() - 1, journal.len()] {
        let notes = again(&journal[..cut]);
        assert!(!notes.iter().any(|note| note.contains("damaged")), "{cut}: {notes:?}");
    }
    for at in [3, 40, journal.len() / 2] {
        let mut damaged = journal.clone();
        damaged[at] ^= 4;
        let notes = again(&damaged);
        assert!(matches!(notes.as_slice(), [note] if note.contains("begins anew")), "{at}: {notes:?}");
    }
}

#[test]
fn parts_that_are_gone_begin_anew() {
    let case = stopped();
    fs::remove_file(&case.parts()[1]).unwrap();
    let notes = Notes::default();
    case.run_with(options(), &notes).unwrap();
    case.is_done();
    assert!(matches!(notes.0.lock().unwrap().as_slice(), [note] if note.contains("begins anew")));
}

#[test]
fn other_types_begin_anew_and_leave_nothing_of_the_first() {
    let case = stopped();
    let source = Checkpoint::open_with(&case.small, &case.distant).unwrap();
    let one = outputs(&case.out)[..1].to_vec();
    let plan = Plan::new(&source, &one, &QuantizeOptions::default()).unwrap();
    let notes = Notes::default();
    convert_streaming(&source, &plan, &case.distant, options(), &case.arrival(), &notes).unwrap();
    assert_eq!(case.names(), ["little-Q4_0.gguf"]);
    assert!(fs::read(&one[0].1).unwrap() == case.wanted[0]);
    assert!(matches!(notes.0.lock().unwrap().as_slice(), [note] if note.contains("other types")));
}

#[test]
fn a_kill_between_two_names_is_finished_without_a_request_for_weights() {
    let case = stopped();
    // as the process leaves it that was killed after the first of two files got its name
    let (mut lines, journal) = (Vec::new(), case.arrival().journal);
    lines.push(fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned());
    let text = r#"{"publishing":true}"#;
    lines.push(format!("{:08x} {text}", crc32fast::hash(text.as_bytes())));
    fs::write(&journal, lines.join("\n") + "\n").unwrap();
    let paths = outputs(&case.out);
    let parts = case.parts();
    fs::remove_file(&parts[0]).unwrap();
    fs::write(&paths[0].1, &case.wanted[0]).unwrap();
    fs::write(&parts[1], &case.wanted[1]).unwrap();
    case.given();
    case.run().unwrap();
    case.is_done();
    assert!(case.given() <= AROUND * case.server.files.len() as u64);
}

#[test]
fn an_older_file_of_the_same_name_and_length_is_not_taken_for_this_runs() {
    let case = stopped();
    let parts = case.parts();
    // as the process leaves it that was killed before the first of two files got its name
    let journal = case.arrival().journal;
    let head = fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned();
    let number = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let paths = outputs(&case.out);
    let files: HashMap<_, _> = paths.iter().zip(&parts).map(|((_, p), part)| (p.to_str(), number(part))).collect();
    let files: String = files.iter().map(|(p, n)| format!("{:?}:{n},", p.unwrap())).collect();
    let text = format!("{{\"publishing\":true,\"files\":{{{}}}}}", files.trim_end_matches(','));
    let entry = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
    fs::write(&journal, format!("{head}\n{entry}")).unwrap();
    // a part is gone, and the name is that of another file of the same length
    fs::write(&paths[0].1, vec![0; case.wanted[0].len()]).unwrap();
    fs::remove_file(&parts[0]).unwrap();
    fs::write(&parts[1], &case.wanted[1]).unwrap();
    case.run_with(ConvertOptions { replace: true, ..options() }, &Silent).unwrap();
    case.is_done();
}

#[test]
fn conversions_that_have_an_output_in_common_leave_each_other_alone() {
    let case = stopped();
    let (journal, parts) = (case.arrival().journal, case.parts());
    let kept: Vec<Vec<u8>> = [&journal, &parts[0], &parts[1]].map(|path| fs::read(path).unwrap()).to_vec();
    let source = Checkpoint::open_with(&case.small, &case.distant).unwrap();
    let one = outputs(&case.out)[..1].to_vec();
    let plan = Plan::new(&source, &one, &QuantizeOptions::default()).unwrap();
    let arrival = StreamOptions { journal: case.out.join("little-Q4_0.tulu-journal"), ..case.arrival() };
    convert_streaming(&source, &plan, &case.distant, options(), &arrival, &Silent).unwrap();
    assert!(fs::read(&one[0].1).unwrap() == case.wanted[0]);
    let found: Vec<Vec<u8>> = [&journal, &parts[0], &parts[1]].map(|path| fs::read(path).unwrap()).to_vec();
    assert!(found == kept, "what was stopped is as it was");
    fs::remove_file(&one[0].1).unwrap();
    case.given();
    case.run().unwrap();
    case.is_done();
    assert!(case.given() < case.total(), "and it is gone on with");
}

#[test]
fn the_order_of_the_types_does_not_matter_to_what_was_stopped() {
    let case = stopped();
    let source = Checkpoint::open_with(&case.small, &case.distant).unwrap();
    let mut other = outputs(&case.out);
    other.reverse();
    let plan = Plan::new(&source, &other, &QuantizeOptions::default()).unwrap();
    case.given();
    let notes = Notes::default();
    convert_streaming(&source, &plan, &case.distant, options(), &case.arrival(), &notes).unwrap();
    case.is_done();
    assert!(matches!(notes.0.lock().unwrap().as_slice(), [note] if note.contains("goes on where")));
    assert!(case.given() < case.total());
}

#[test]
fn outputs_that_exist_are_refused_before_anything_is_fetched_and_replaced_on_demand() {
    let case = Case::safetensors();
    fs::write(case.out.join("little-Q8_0.gguf"), "mine").unwrap();
    let err = case.run().unwrap_err();
    assert_eq!(err.code, Code::OutputExists);
    assert_eq!(case.names(), ["little-Q8_0.gguf"]);
    assert!(case.given() <= AROUND * case.server.files.len() as u64);
    case.run_with(ConvertOptions { replace: true, ..options() }, &Silent).unwrap();
    case.is_done();
}

#[test]
fn of_two_at_once_one_says_so() {
    let case = Case::safetensors();
    let held = fs::File::create(case.arrival().journal).unwrap();
    held.lock().unwrap();
    let err = case.run().unwrap_err();
    assert_eq!(err.code, Code::Locked, "{err}");
    drop(held);
    case.run().unwrap();
    case.is_done();
}

#[test]
fn storages_that_are_views_are_left_to_a_download() {
    let dir = tempfile::tempdir().unwrap();
    made::Checkpoint { shards: 1, ..Default::default() }.write(dir.path());
    let mut source = Checkpoint::open(dir.path()).unwrap();
    let plan = Plan::new(&source, &outputs(dir.path()), &QuantizeOptions::default()).unwrap();
    let arrival = StreamOptions::of(1 << 30, dir.path().join("journal"));
    assert!(can_stream(&source, &plan, &arrival));
    let matrix = source.tensors.iter_mut().find(|t| t.shape.len() == 2).unwrap();
    matrix.strides = Some(vec![1, matrix.shape[0]]);
    assert!(!can_stream(&source, &plan, &arrival));
}

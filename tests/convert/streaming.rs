//! `convert` of a repository from outside: a hub on loopback, weights that convert as they arrive, and everything that can
//! end that on the way.

use crate::checkpoints;
use crate::support::hub::{CANARY, Fault, Server};
use crate::support::{last_line, run, shared};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ID: &str = "allenai/tulu-tiny";
const TYPES: &str = "Q4_K_M,Q8_0";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")
}

/// A hub that serves `folder`, and what a conversion of the whole checkpoint makes of it.
struct Case {
    hub: Server,
    /// Bytes of the weight files.
    total: u64,
    /// What opening may read of them twice: headers and directories, and what lies around them.
    around: u64,
    wanted: Vec<(String, Vec<u8>)>,
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

impl Case {
    fn new(folder: &Path) -> Self {
        let hub = Server::start();
        hub.add(ID, folder);
        let weights = fs::read_dir(folder).unwrap().map(|e| e.unwrap());
        let weights = weights.filter(|e| is_weights(e.file_name().to_str().unwrap()));
        let lengths: Vec<u64> = weights.map(|e| e.metadata().unwrap().len()).collect();
        let total = lengths.iter().sum();
        let around = lengths.iter().map(|len| 2 * (len / 64).clamp(8 << 10, 256 << 10) + 150_000).sum();
        // from the shared cache, which a second hub serves, so that this one's stays clean
        let other = Server::start();
        other.add(ID, folder);
        let out = other.dir().join("out");
        let kept = run(command(&other, &out).arg("--keep-checkpoint"), b"");
        assert_eq!(kept.status.code(), Some(0), "{}", String::from_utf8_lossy(&kept.stderr));
        let wanted = outputs(&out);
        assert_eq!(wanted.len(), 2);
        Self { hub, total, around, wanted }
    }

    fn tiny() -> Self {
        Self::new(&fixture())
    }

    fn out(&self) -> PathBuf {
        self.hub.dir().join("out")
    }

    fn convert(&self) -> Output {
        run(&mut command(&self.hub, &self.out()), b"")
    }

    /// The files are there, whole, and nothing beside them; and the token is nowhere.
    fn is_done(&self, output: &Output) {
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let found = outputs(&self.out());
        assert_eq!(names(&found), names(&self.wanted));
        assert!(found == self.wanted, "the files differ from those of the kept checkpoint");
        self.is_clean(output);
    }

    /// No file looks whole, and the token is nowhere.
    fn is_not_done(&self, output: &Output) {
        let found = outputs(&self.out());
        assert!(found.iter().all(|(name, _)| !name.ends_with(".gguf")), "{:?}", names(&found));
        self.is_clean(output);
    }

    fn is_clean(&self, output: &Output) {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        assert!(!String::from_utf8_lossy(&said).contains(CANARY), "the token was printed");
        for (name, bytes) in outputs(&self.out()) {
            assert!(!bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()), "the token is in {name}");
        }
    }

    /// Bytes of weight files that were served since the last time.
    fn served(&self) -> u64 {
        let n = [".safetensors", ".bin"].iter().map(|ending| self.hub.served(&format!("{ending}?"))).sum();
        self.hub.forget();
        n
    }
}

fn command(hub: &Server, out: &Path) -> Command {
    command_to(hub, out, TYPES)
}

fn command_to(hub: &Server, out: &Path, types: &str) -> Command {
    let mut command = hub.command();
    command.args(["convert", ID, "-q", types, "-o"]).arg(out);
    command
}

/// Name and bytes of every file in `out`, in order.
fn outputs(out: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(out) else { return Vec::new() };
    let read = |e: fs::DirEntry| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap());
    let mut all: Vec<_> = entries.map(|e| read(e.unwrap())).collect();
    all.sort();
    all
}

fn names(files: &[(String, Vec<u8>)]) -> Vec<&str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}

/// Bytes of all files below `dir` that are not the outputs.
fn disk_used(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |e: fs::DirEntry| {
        let name = e.file_name().into_string().unwrap();
        match e.metadata() {
            Ok(found) if found.is_dir() => disk_used(&e.path()),
            Ok(found) if !name.contains(".gguf") => found.len(),
            _ => 0,
        }
    };
    entries.flatten().map(of).sum()
}

fn arrives(case: &Case) {
    let most = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(disk_used(case.hub.dir()), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let output = case.convert();
        done.store(true, Ordering::Relaxed);
        output
    });
    case.is_done(&output);
    let most = most.into_inner();
    assert!(most > 0 && most < case.total / 4, "{most} bytes of temporary disk for {}", case.total);
    let served = case.served();
    assert!(served >= case.total && served <= case.total + case.around, "{served} of {}", case.total);
}

#[test]
fn safetensors_arrive_as_from_the_kept_checkpoint_with_hardly_any_disk() {
    arrives(&Case::tiny());
}

#[test]
fn bin_files_arrive_as_from_the_kept_checkpoint_with_hardly_any_disk() {
    let dir = tempfile::tempdir().unwrap();
    checkpoints::Checkpoint { layers: 4, shards: 3, ..Default::default() }.write_bin(dir.path());
    arrives(&Case::new(dir.path()));
}

#[test]
fn a_matrix_that_is_a_view_is_fetched_as_a_whole_first_and_the_file_is_the_same() {
    use checkpoints::torch::{Pickle, View, members, zip};
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = checkpoints::Checkpoint { layers: 1, shards: 1, ..Default::default() };
    checkpoint.write_beside(dir.path());
    let tensors = checkpoint.tensors();
    let entries = tensors.iter().enumerate().map(|(i, (name, shape, _))| {
        let mut view = View::whole("BFloat16Storage", i, shape);
        if name.ends_with("o_proj.weight") {
            view.strides.reverse();
        }
        (name.as_str(), view)
    });
    let storages: Vec<Vec<u8>> = tensors.iter().map(|(.., bytes)| bytes.clone()).collect();
    let bytes = zip(&members(&Pickle::state(entries), &storages)).bytes;
    fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
    let case = Case::new(dir.path());
    let output = case.convert();
    assert!(String::from_utf8_lossy(&output.stderr).contains("fetched as a whole first"), "{output:?}");
    case.is_done(&output);
}

#[test]
fn a_plan_fetches_no_weights() {
    let case = Case::tiny();
    let output = run(command(&case.hub, &case.out()).args(["--dry-run", "--json"]), b"");
    assert_eq!(output.status.code(), Some(0));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["source"], format!("{ID}@{}", case.hub.commit(ID)));
    assert!(case.served() <= case.around && outputs(&case.out()).is_empty());
}

#[test]
fn a_bad_line_is_worked_around() {
    let case = Case::tiny();
    case.hub.fault(Fault::on("model-00001").times(4).cut_after(50_000));
    case.hub.fault(Fault::on("model-00002").times(2).status(503));
    case.hub.fault(Fault::on("model-00002").times(3).cut_after(1));
    case.hub.fault(Fault::on("config.json").times(1).cut_after(20));
    let output = case.convert();
    case.is_done(&output);
}

#[test]
fn a_changed_byte_is_one_line_and_the_next_run_fetches_that_file_only() {
    let case = Case::tiny();
    // the lowest bit of a weight: any number is a number
    case.hub.fault(Fault::on("model-00002").corrupt_at(3_000_000));
    let output = case.convert();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let line = last_line(&output);
    assert!(line.starts_with("tulu-quant: error[HUB_HASH]:") && line.contains("model-00002"), "{line}");
    case.is_not_done(&output);
    case.served();
    let output = case.convert();
    case.is_done(&output);
    let first = fs::metadata(fixture().join("model-00001-of-00002.safetensors")).unwrap().len();
    let served = case.served();
    assert!(served <= case.total - first + case.around, "{served} bytes: the first file was right");
}

#[test]
fn an_answer_of_another_length_is_one_line_and_nothing_of_it_is_used() {
    let case = Case::tiny();
    case.hub.fault(Fault::on("model-00002").lie_length(7));
    let output = case.convert();
    assert!(last_line(&output).starts_with("tulu-quant: error[HUB_ANSWER]"), "{}", last_line(&output));
    case.is_not_done(&output);
    case.hub.forget();
    let output = case.convert();
    case.is_done(&output);
}

#[test]
fn a_dead_server_is_one_line_with_its_own_code() {
    let case = Case::tiny();
    case.hub.fault(Fault::on("model-00002").status(403).error_code("GatedRepo"));
    let output = case.convert();
    let line = last_line(&output);
    assert!(line.starts_with("tulu-quant: error[HUB_") && line.contains(ID), "{line}");
    case.is_not_done(&output);
}

#[test]
fn another_type_leaves_what_was_stopped_alone() {
    let case = Case::tiny();
    // of the second file the lowest bit of a weight is wrong
    case.hub.fault(Fault::on("model-00002").corrupt_at(3_000_000));
    let output = case.convert();
    case.is_not_done(&output);
    let begun = outputs(&case.out());
    assert_eq!(begun.len(), 3, "two parts and a journal: {:?}", names(&begun));
    case.hub.forget();
    // other types, one of them in common, in whichever order
    let output = run(&mut command_to(&case.hub, &case.out(), "Q4_0"), b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is of a conversion to other types"), "{output:?}");
    let output = run(&mut command_to(&case.hub, &case.out(), "Q8_0"), b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found = outputs(&case.out());
    begun.iter().for_each(|file| assert!(found.contains(file), "{} changed", file.0));
    ["tulu-tiny-Q4_0.gguf", "tulu-tiny-Q8_0.gguf"].iter().for_each(|n| fs::remove_file(case.out().join(n)).unwrap());
    case.served();
    let output = run(&mut command_to(&case.hub, &case.out(), "Q8_0,Q4_K_M"), b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("goes on where"), "{output:?}");
    case.is_done(&output);
    assert!(case.served() < case.total + case.around, "something was kept");
}

#[test]
fn a_header_that_comes_differently_the_first_time_is_one_line_and_no_file() {
    let case = Case::tiny();
    // nothing depends on this letter, so it is only the comparison that sees it
    let header = fs::read(fixture().join("model-00001-of-00002.safetensors")).unwrap();
    let at = header.windows(4).position(|part| part == b"\"pt\"").unwrap() + 1;
    case.hub.fault(Fault::on("model-00001").times(1).corrupt_at(at));
    let output = case.convert();
    let line = last_line(&output);
    assert_eq!(output.status.code(), Some(3), "{line}");
    assert!(line.starts_with("tulu-quant: error[HUB_HASH]:") && line.contains("came differently"), "{line}");
    case.is_not_done(&output);
    let output = case.convert();
    case.is_done(&output);
}

/// The command, started; its answers come slowly.
fn start(case: &Case, stall: u64) -> Child {
    case.hub.fault(Fault::on("model").stall(Duration::from_millis(stall)));
    command(&case.hub, &case.out()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Bytes that the journal in `out` says are done.
fn claimed(out: &Path) -> u64 {
    let files = outputs(out);
    let journal = files.iter().find(|(name, _)| name.ends_with(".tulu-journal"));
    let text = journal.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let entries = whole.filter_map(|line| serde_json::from_str::<serde_json::Value>(line.get(9..)?).ok());
    entries.filter_map(|entry| entry["arrived"].as_u64()).next_back().unwrap_or(0)
}

fn kills(case: &Case, kills: u32, stall: u64, most: Duration) {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut state = u64::from(seed) | 1;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1_u64 << 31) as f64
    };
    let mut kept = 0;
    for number in 0..kills {
        drop(fs::remove_dir_all(case.out()));
        let moment = most.mul_f64(random());
        let mut child = start(case, stall);
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let done = outputs(&case.out()).iter().filter(|(name, _)| name.ends_with(".gguf")).count();
        let claims = claimed(&case.out());
        kept += u32::from(claims > 0);
        case.served();
        if done == 0 {
            let output = case.convert();
            case.is_done(&output);
            let served = case.served();
            assert!(
                served <= case.total - claims + case.around,
                "kill {number} after {moment:?}: {served} served of {}, {claims} were done",
                case.total
            );
        } else {
            // killed at its very end: every file is whole or still has its other name
            let found = outputs(&case.out());
            for (name, bytes) in found.iter().filter(|(name, _)| name.ends_with(".gguf")) {
                assert!(case.wanted.iter().any(|(n, b)| n == name && b == bytes), "{name}");
            }
        }
    }
    println!("{kept} of {kills} kills left something to go on from");
}

#[test]
fn killed_at_random_moments_it_goes_on_and_fetches_nothing_twice() {
    kills(&Case::tiny(), 6, 60, Duration::from_millis(900));
}

#[test]
#[ignore = "long: a minute and more"]
fn long_thirty_kills_at_random_moments() {
    kills(&Case::tiny(), 30, 60, Duration::from_millis(900));
}

#[test]
fn ctrl_c_keeps_what_has_arrived() {
    let case = Case::tiny();
    let child = start(&case, 800);
    let begun = Instant::now();
    while !case.out().join("tulu-tiny-Q8_0-Q4_K_M.tulu-journal").exists() || claimed(&case.out()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing was entered");
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap(),
        rustix::process::Signal::INT,
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    case.is_not_done(&output);
    let claims = claimed(&case.out());
    case.served();
    let output = case.convert();
    assert!(String::from_utf8_lossy(&output.stderr).contains("goes on where"), "it says so");
    case.is_done(&output);
    assert!(claims > 0 && case.served() <= case.total - claims + case.around);
}

/// `chat` with the repository's name; the GGUF file that it keeps is the one that `convert` makes.
fn chat(case: &Case) -> Command {
    let mut command = case.hub.command();
    command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]);
    command
}

/// It answers, from the right file, and the cache holds neither a part nor the weights.
fn answers(case: &Case, output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Paris"), "{output:?}");
    let commit = case.hub.commit(ID);
    let kept = outputs(&case.hub.dir().join("cache/hub/allenai--tulu-tiny").join(commit));
    assert_eq!(names(&kept), ["tulu-tiny-Q4_K_M.gguf"]);
    let (_, wanted) = case.wanted.iter().find(|(name, _)| name == "tulu-tiny-Q4_K_M.gguf").unwrap();
    assert!(kept[0].1 == *wanted, "the file differs from that of convert");
    assert!(disk_used(case.hub.dir()) < case.total / 4, "the weights are in the cache");
    case.is_clean(output);
}

#[test]
fn chat_with_a_name_answers_whatever_happens_at_each_stage() {
    let case = Case::tiny();
    for part in ["api/models", "config.json", "tokenizer.model", "model-00001", "model-00002"] {
        case.hub.fault(Fault::on(part).times(1).status(503));
        case.hub.fault(Fault::on(part).times(1).cut_after(10));
    }
    let output = run(&mut chat(&case), b"");
    answers(&case, &output);
    case.served();
    let again = run(&mut chat(&case), b"");
    answers(&case, &again);
    assert_eq!(case.hub.requests().len(), 0, "the second time it starts at once");
}

fn chat_kills(number: u32) {
    let case = Case::tiny();
    for kill in 0..number {
        drop(fs::remove_dir_all(case.hub.dir().join("cache")));
        drop(fs::remove_dir_all(case.hub.dir().join("hub")));
        case.hub.fault(Fault::on("").stall(Duration::from_millis(25)));
        // moments spread over listing, small files, weights, load and answer
        let moment = Duration::from_millis(u64::from(kill) * 1500 / u64::from(number));
        let mut child = chat(&case).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
        let made = case.hub.dir().join("cache/hub/allenai--tulu-tiny").join(case.hub.commit(ID));
        let claims = claimed(&made);
        case.served();
        let output = run(&mut chat(&case), b"");
        answers(&case, &output);
        let served = case.served();
        assert!(served <= case.total - claims + case.around, "after {moment:?}: {served} served, {claims} were done");
    }
}

#[test]
fn chat_killed_at_any_moment_goes_on() {
    chat_kills(4);
}

#[test]
#[ignore = "long: a minute and more"]
fn long_chat_killed_at_thirty_moments_goes_on() {
    chat_kills(30);
}

/// A checkpoint of real shape and layout, made by the tool beside the repository.
fn from_tool(args: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let made =
        Command::new(python).arg(shared("tools/make_checkpoint.py")).arg(dir.path()).args(args).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

#[test]
#[ignore = "needs ../shared and a Python with PyTorch: PYTHON names it"]
fn made_checkpoints_of_many_shards_arrive() {
    for args in SHARED {
        let dir = from_tool(args);
        let case = Case::new(dir.path());
        arrives(&case);
        kills(&case, 5, 20, Duration::from_secs(2));
    }
}

/// Arguments of make_checkpoint.py.
const SHARED: [&[&str]; 2] =
    [&["--shape", "small", "--shards", "3"], &["--shape", "small", "--shards", "3", "--format", "bin", "--inv-freq"]];

//! Streaming conversion: `convert` and `chat` with a repository on a loopback hub. Here is a case and the checks after
//! every run; the tests are in the modules.

mod chat;
mod faults;
mod outputs;
mod resume;

use crate::support::checkpoint::bundled;
use crate::support::hub::{CANARY, Fault, Server};
use crate::support::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const ID: &str = "allenai/tulu-tiny";

const TYPES: &str = "Q4_K_M,Q8_0";

/// A hub that serves a checkpoint, and the files that a conversion of the downloaded checkpoint makes.
struct Case {
    hub: Server,
    /// Bytes of the weight files.
    total: u64,
    /// Bytes that may be fetched twice: headers and directories, and the bytes around them.
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
        // from a second hub, so that the cache of this one stays empty
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
        Self::new(&bundled())
    }

    fn out(&self) -> PathBuf {
        self.hub.dir().join("out")
    }

    fn convert(&self) -> Output {
        run(&mut command(&self.hub, &self.out()), b"")
    }

    /// Asserts that there are exactly the expected files, and the token nowhere.
    fn is_done(&self, output: &Output) {
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let found = outputs(&self.out());
        assert_eq!(names(&found), names(&self.wanted));
        assert!(found == self.wanted, "the files differ from those of the kept checkpoint");
        self.is_clean(output);
    }

    /// Asserts that no output has its final name, and that the token is nowhere.
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

    /// Bytes of weight files that were served since the last call.
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

/// Name and bytes of every file in `out`, sorted.
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

/// Bytes of all files below `dir` except the outputs.
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

/// The number of bytes that are complete according to the journal in `out`.
fn claimed(out: &Path) -> u64 {
    let files = outputs(out);
    let journal = files.iter().find(|(name, _)| name.ends_with(".tulu-journal"));
    let text = journal.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let entries = whole.filter_map(|line| serde_json::from_str::<serde_json::Value>(line.get(9..)?).ok());
    entries.filter_map(|entry| entry["arrived"].as_u64()).next_back().unwrap_or(0)
}

/// Starts the command with a slow hub.
fn start(case: &Case, stall: u64) -> Child {
    case.hub.fault(Fault::on("model").stall(Duration::from_millis(stall)));
    command(&case.hub, &case.out()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
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
            // killed at the end: every file with its final name is complete
            let found = outputs(&case.out());
            for (name, bytes) in found.iter().filter(|(name, _)| name.ends_with(".gguf")) {
                assert!(case.wanted.iter().any(|(n, b)| n == name && b == bytes), "{name}");
            }
        }
    }
    println!("{kept} of {kills} kills left something to go on from");
}

//! Streaming conversion makes the files of a kept checkpoint with little disk space, and fetches nothing twice.

use super::{Case, ID, command, disk_used, kills, outputs};
use crate::checkpoints;
use crate::support::{run, shared};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

fn converts_while_downloading(case: &Case) {
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
fn safetensors_stream_with_little_disk_space() {
    converts_while_downloading(&Case::tiny());
}

#[test]
fn bin_files_stream_with_little_disk_space() {
    let dir = tempfile::tempdir().unwrap();
    checkpoints::Checkpoint { layers: 4, shards: 3, ..Default::default() }.write_bin(dir.path());
    converts_while_downloading(&Case::new(dir.path()));
}

#[test]
fn checkpoint_with_a_view_is_downloaded_first() {
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("downloading the whole checkpoint first"), "{output:?}");
    case.is_done(&output);
}

#[test]
fn dry_run_fetches_no_weights() {
    let case = Case::tiny();
    let output = run(command(&case.hub, &case.out()).args(["--dry-run", "--json"]), b"");
    assert_eq!(output.status.code(), Some(0));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["source"], format!("{ID}@{}", case.hub.commit(ID)));
    assert!(case.served() <= case.around && outputs(&case.out()).is_empty());
}

/// A checkpoint of real shape and layout, made by the tool in `../shared`.
fn from_tool(args: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let made =
        Command::new(python).arg(shared("tools/make_checkpoint.py")).arg(dir.path()).args(args).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

/// Arguments of make_checkpoint.py.
const SHARED: [&[&str]; 2] =
    [&["--shape", "small", "--shards", "3"], &["--shape", "small", "--shards", "3", "--format", "bin", "--inv-freq"]];

#[test]
#[ignore = "needs ../shared and a Python with PyTorch: PYTHON names it"]
fn tools_checkpoints_of_many_shards_are_streamed() {
    for args in SHARED {
        let dir = from_tool(args);
        let case = Case::new(dir.path());
        converts_while_downloading(&case);
        kills(&case, 5, 20, Duration::from_secs(2));
    }
}

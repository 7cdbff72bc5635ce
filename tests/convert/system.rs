//! `convert` under bad conditions of the system: kills and signals, a full disk, few threads, no /proc.

use crate::support::checkpoint::{convert, copy, listing};
use crate::support::{assert_success, last_line, run, tulu_quant};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a conversion to several types on one thread: about a second of work.
fn start(source: &Path, out: &Path) -> Child {
    let all = "F32,BF16,Q8_0,Q6_K,Q5_K_M,Q4_K_M";
    let mut command = tulu_quant();
    command.args(["convert", "-q", all, "-t", "1", "-o"]).args([out, source]).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Starts a conversion and ends it after `after` with `signal`.
fn interrupted(source: &Path, out: &Path, after: Duration, signal: &str) -> std::process::ExitStatus {
    let mut child = start(source, out);
    std::thread::sleep(after);
    Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
    child.wait().unwrap()
}

#[test]
fn killed_conversion_leaves_complete_files_or_none() {
    let (_dir, source, out) = copy();
    let begun = Instant::now();
    assert!(start(&source, &out).wait().unwrap().success());
    let whole = begun.elapsed();
    let files = listing(&out);
    let types = ["BF16", "F32", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"];
    assert_eq!(files, types.map(|name| format!("source-{name}.gguf")));
    let complete: Vec<Vec<u8>> = files.iter().map(|name| fs::read(out.join(name)).unwrap()).collect();
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut state = seed;
    for signal in ["-KILL", "-INT", "-TERM"].into_iter().cycle().take(18) {
        files.iter().for_each(|name| drop(fs::remove_file(out.join(name))));
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let status = interrupted(&source, &out, whole.mul_f64(f64::from(state >> 8) / f64::from(1 << 24)), signal);
        for name in listing(&out) {
            let Some(at) = files.iter().position(|file| *file == name) else { panic!("{signal} left {name}") };
            assert!(fs::read(out.join(&name)).unwrap() == complete[at], "{signal}: {name} is not complete");
        }
        let code = status.code();
        match signal {
            "-INT" => assert!(matches!(code, None | Some(0 | 130)), "{status}"),
            "-TERM" => assert!(matches!(code, None | Some(0 | 143)), "{status}"),
            _ => {}
        }
        if code.is_some_and(|c| c != 0) {
            assert!(listing(&out).is_empty(), "{signal} left {:?}", listing(&out));
        }
    }
}

#[test]
#[ignore = "needs root, to mount a small tmpfs"]
fn root_full_disk_is_reported_before_writing() {
    let (dir, source, _out) = copy();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).status().unwrap();
    assert!(mounted.success());
    let output = convert(&source, &disk, &["-q", "Q4_K_M"]);
    let left = listing(&disk);
    Command::new("umount").arg(&disk).status().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(last_line(&output).starts_with("tulu-quant: error[DISK_FULL]: "), "{}", last_line(&output));
    assert!(left.is_empty(), "{left:?}");
}

/// Waits for `child` and returns its status. Panics if it hangs.
fn wait(mut child: std::process::Child, what: &str) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("{what}: it hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root, to become a user who may have few threads"]
fn root_converts_where_threads_cannot_be_started() {
    let (dir, source, out) = copy();
    let program = dir.path().join("tulu-quant");
    fs::copy(env!("CARGO_BIN_EXE_tulu-quant"), &program).unwrap();
    [dir.path(), &out].iter().for_each(|d| fs::set_permissions(d, fs::Permissions::from_mode(0o777)).unwrap());
    assert_success(&convert(&source, &out.join("all.gguf"), &["-q", "Q4_K_M"]));
    for limit in 1..=5 {
        let file = out.join(format!("{limit}.gguf"));
        let mut command = Command::new("prlimit");
        command.arg(format!("--nproc={limit}")).arg(&program).arg("convert").arg(&source);
        command.args(["-q", "Q4_K_M", "-t", "16", "-o"]).arg(&file).uid(65534).gid(65534);
        let status = wait(command.stderr(Stdio::null()).spawn().unwrap(), &format!("{limit} processes"));
        assert_eq!(status.code(), Some(0), "{limit} processes");
        assert!(fs::read(file).unwrap() == fs::read(out.join("all.gguf")).unwrap());
    }
}

#[test]
#[ignore = "needs root, to mount something over /proc"]
fn root_converts_without_proc() {
    let (_dir, source, out) = copy();
    let script = "mount -t tmpfs none /proc && umask 022 && exec \"$@\"";
    for force in [false, true] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_tulu-quant"), "convert"]);
        command.arg(&source).args(["-q", "Q8_0,Q4_0", "-o"]).arg(&out).args(force.then_some("--force"));
        assert_success(&run(&mut command, b""));
        assert_eq!(listing(&out), ["source-Q4_0.gguf", "source-Q8_0.gguf"]);
        for name in listing(&out) {
            assert_eq!(fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, 0o644);
        }
    }
}

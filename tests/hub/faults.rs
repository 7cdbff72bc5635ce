//! `pull` from a faulty hub: it retries and resumes, or ends with one line.

use crate::support::checkpoint::bundled;
use crate::support::hub::checks::{ID, check, files_below, pull, served, whole};
use crate::support::hub::{CANARY, Fault, Host};
use crate::support::{assert_error, last_line, run};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn faulty_transfers_end_with_correct_files() {
    type Wrong = (&'static str, fn(Fault) -> Fault);
    let faults: &[Wrong] = &[
        ("cut", |f| f.times(40).cut_after(200_000)),
        ("cut in the first byte", |f| f.times(2).cut_after(0)),
        ("too long", |f| f.times(2).lie_length(10)),
        ("too short", |f| f.times(2).lie_length(-10)),
        ("damaged", |f| f.times(1).corrupt_at(1_000_000)),
        ("html", |f| f.times(1).html()),
        ("503", |f| f.times(2).status(503)),
        ("429", |f| f.times(2).status(429).header("Retry-After", "0")),
        ("403 of a signature that ran out", |f| f.at(Host::Cdn).times(2).status(403)),
    ];
    let parts = ["model-00001", "tokenizer.model", "config.json"];
    let cases = faults.iter().flat_map(|(name, wrong)| parts.map(|part| (name, wrong, part)));
    side_by_side(cases, |(name, wrong, part)| {
        let hub = served();
        hub.fault(wrong(Fault::on(part)));
        let output = pull(&hub);
        assert_eq!(output.status.code(), Some(0), "{name} at {part}: {}", last_line(&output));
        whole(&output);
        check(&hub, &output);
    });
}

#[test]
fn permanent_errors_print_one_line_with_code() {
    type Wrong = (&'static str, i32, &'static str, fn(Fault) -> Fault);
    let faults: &[Wrong] = &[
        ("HUB_GATED", 2, "model-00001", |f| f.status(403).error_code("GatedRepo")),
        ("HUB_GATED", 2, "model-00001", |f| f.status(401).error_code("GatedRepo")),
        ("HUB_AUTH", 2, "api/models", |f| f.status(401)),
        ("HUB_AUTH", 2, "config.json", |f| f.status(403)),
        ("HUB_NOT_FOUND", 2, "api/models", |f| f.status(404).error_code("RepoNotFound")),
        ("HUB_NOT_FOUND", 2, "api/models", |f| f.status(401).error_code("RepoNotFound")),
        ("HUB_REVISION", 2, "api/models", |f| f.status(404).error_code("RevisionNotFound")),
        ("HUB_FILE", 2, "config.json", |f| f.status(404).error_code("EntryNotFound")),
        ("HUB_RATE", 3, "api/models", |f| f.status(429).header("Retry-After", "3600")),
        ("HUB_RATE", 3, "model-00001", |f| f.status(429).header("Retry-After", "0")),
        ("HUB_SERVER", 3, "api/models", |f| f.status(500)),
        ("HUB_SERVER", 3, "model-00001", |f| f.status(504)),
        ("HUB_ANSWER", 3, "api/models", |f| f.status(200)),
        ("HUB_ANSWER", 3, "config.json", |f| f.status(200)),
        ("HUB_ANSWER", 3, "model-00001", |f| f.lie_length(10)),
        ("HUB_HASH", 3, "model-00001", |f| f.corrupt_at(77)),
        ("HUB_HASH", 3, "config.json", |f| f.html()),
        ("HUB_CUT", 3, "model-00001", |f| f.cut_after(0)),
        ("HUB_REDIRECT", 3, "config.json", |f| f.redirect_to("ftp://127.0.0.2/x")),
        ("HUB_REDIRECT", 3, "config.json", |f| f.redirect_to("/allenai/tulu-tiny/resolve/main/config.json")),
    ];
    side_by_side(faults.iter(), |(code, exit, part, wrong)| {
        let hub = served();
        hub.fault(wrong(Fault::on(part)));
        let output = pull(&hub);
        let line = last_line(&output);
        assert!(line.starts_with(&format!("tulu-quant: error[{code}]: ")), "{code} at {part}: {line}");
        assert_eq!(output.status.code(), Some(*exit), "{line}");
        assert!(output.stdout.is_empty());
        check(&hub, &output);
        // without the fault the same command succeeds
        hub.forget();
        let mended = pull(&hub);
        whole(&mended);
        check(&hub, &mended);
    });
}

#[test]
fn range_of_a_resumed_download_is_checked() {
    let shard = "model-00001";
    // another range, and the whole file in place of a range
    let faults: [fn(Fault) -> Fault; 2] = [|f| f.content_range("bytes 7-99/12345"), Fault::ignore_range];
    for fault in faults {
        let hub = served();
        hub.fault(Fault::on(shard).times(1).cut_after(200_000));
        hub.fault(fault(Fault::on(shard)));
        let output = pull(&hub);
        assert_error(&output, 3, "HUB_ANSWER", &[shard]);
        check(&hub, &output);
        hub.forget();
        let output = pull(&hub);
        whole(&output);
        check(&hub, &output);
    }
}

#[test]
fn unreachable_hosts_and_invalid_settings_are_reported() {
    let hub = served();
    let with = |name: &str, value: &str| {
        let mut command = hub.command();
        command.env(name, value).env("TULU_QUANT_HUB_TRIES", "1");
        let output = run(command.args(["pull", ID]), b"");
        check(&hub, &output);
        (output.status.code(), last_line(&output))
    };
    let https = hub.url().replace("http:", "https:");
    let file = hub.dir().join("file");
    fs::write(&file, "").unwrap();
    for (name, value, code, exit) in [
        ("HF_ENDPOINT", "http://127.0.0.1:1", "HUB_CONNECT", 3),
        ("HF_ENDPOINT", "http://no-such-host.invalid", "HUB_CONNECT", 3),
        ("HF_ENDPOINT", https.as_str(), "HUB_TLS", 3),
        ("HF_ENDPOINT", "huggingface.co", "HUB_ENDPOINT", 2),
        ("HF_TOKEN", "with space", "HUB_TOKEN", 2),
        ("HF_HUB_OFFLINE", "1", "HUB_OFFLINE", 2),
        ("HF_HUB_CACHE", file.to_str().unwrap(), "HUB_CACHE", 3),
    ] {
        let (found, line) = with(name, value);
        assert!(line.contains(&format!("error[{code}]: ")), "{name}={value}: {line}");
        assert_eq!(found, Some(exit), "{line}");
    }
}

#[test]
fn ctrl_c_on_a_silent_server_keeps_received_data() {
    let hub = served();
    // half of the first shard is sent, then nothing
    hub.fault(Fault::on("model-00001").times(1).cut_after(3_000_000));
    hub.fault(Fault::on("model-00001").stall(Duration::from_secs(60)));
    let mut child = hub.command().args(["pull", ID]).stderr(Stdio::piped()).spawn().unwrap();
    while hub.requests().iter().filter(|seen| seen.host == Host::Cdn && seen.path.contains("model-00001")).count() < 2 {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    let cmdline = fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    assert!(!cmdline.contains(CANARY));
    let pressed = Instant::now();
    interrupt(child.id());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(pressed.elapsed() < Duration::from_secs(10), "{:?}", pressed.elapsed());
    hub.forget();
    let output = pull(&hub);
    whole(&output);
    check(&hub, &output);
    // progress is recorded in steps of 1/64
    assert!(hub.served("model-00001") < 5_642_312 - 2_800_000, "{} served again", hub.served("model-00001"));
}

/// Kills at random moments until one run ends. Each run resumes at the recorded place.
#[test]
fn kills_cost_only_unrecorded_bytes() {
    let seed = std::env::var("TULU_QUANT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos())
    });
    println!("TULU_QUANT_TEST_SEED={seed}");
    let mut random = seed | 1;
    let hub = served();
    let total: u64 = 5_642_312 + 5_380_536;
    let (mut kills, mut killed_in_transfer) = (0, 0_u64);
    while kills < 30 {
        // every request of a shard breaks after 400,000 bytes
        hub.fault(Fault::on("model-0000").cut_after(400_000));
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = hub
            .command()
            .args(["pull", ID])
            .env("TULU_QUANT_HUB_TRIES", "9")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random % 900));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        killed_in_transfer += 1;
        let links =
            files_below(&hub.dir().join("hub")).into_iter().filter(|f| f.to_string_lossy().contains("/snapshots/"));
        assert_eq!(links.count(), 0, "nothing is named before it is whole");
    }
    let output = pull(&hub);
    whole(&output);
    check(&hub, &output);
    // a kill costs at most one unrecorded step and one request for each of two connections
    let served = hub.served("model-0000");
    let allowed = total + killed_in_transfer * 2 * (90_000 + 400_000);
    assert!(served <= allowed, "{served} of {allowed} after {kills} kills");
    println!("{kills} kills: served {served} for {total}");
}

/// The largest numbers as sizes, alone and in sums: an error and no overflow.
#[test]
fn impossible_sizes_are_refused() {
    let hash = "a".repeat(64);
    let weights = |sizes: &[u64]| {
        let mut files = vec![json!({"rfilename": "config.json", "size": 2, "blobId": "b".repeat(40)})];
        for (n, size) in sizes.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", n + 1, sizes.len());
            files.push(json!({"rfilename": name, "size": size, "lfs": {"sha256": hash, "size": size}}));
        }
        files.push(json!({"rfilename": "model.safetensors.index.json", "size": 2, "blobId": "c".repeat(40)}));
        json!({"sha": "a".repeat(40), "siblings": files})
    };
    for sizes in [&[1 << 63, 1 << 63][..], &[u64::MAX, 1], &[u64::MAX], &[(1 << 44) + 1], &[1 << 44; 70]] {
        for args in [&["pull", ID][..], &["pull", ID, "--dry-run"], &["chat", ID, "-p", "x"], &["convert", ID]] {
            let hub = served();
            hub.fault(Fault::on("api/models").say(weights(sizes).to_string().as_bytes()));
            let output = run(hub.command().env("TULU_QUANT_HUB_TRIES", "1").args(args), b"");
            let line = last_line(&output);
            assert!(line.contains("error[HUB_ANSWER]: ") && line.contains("which is too large"), "{sizes:?}: {line}");
            assert_eq!(output.status.code(), Some(3), "{line}");
        }
    }
    // the same in the other listing
    let hub = served();
    hub.bare_listing();
    let tree = json!([{"type": "file", "path": "config.json", "size": u64::MAX, "oid": "b".repeat(40)}]);
    hub.fault(Fault::on("/tree/").say(tree.to_string().as_bytes()));
    let output = pull(&hub);
    assert!(last_line(&output).contains("error[HUB_ANSWER]"), "{}", last_line(&output));
    // the largest valid size is too much for the disk
    let hub = served();
    hub.fault(Fault::on("api/models").say(weights(&[1 << 44; 3]).to_string().as_bytes()));
    let output = pull(&hub);
    assert!(last_line(&output).contains("error[DISK_FULL]"), "{}", last_line(&output));
}

#[test]
fn redirect_with_a_url_in_its_query_is_followed() {
    let hub = served();
    let to = format!("/{ID}/resolve/{}/config.json?from=https://x/&to=ftp://y", hub.commit(ID));
    hub.fault(Fault::on("config.json").times(1).redirect_to(&to));
    hub.fault(Fault::on("api/models").times(1).redirect_to(&format!("/api/models/{ID}/revision/main?from=https://x/")));
    let output = pull(&hub);
    whole(&output);
    check(&hub, &output);
}

#[test]
fn server_that_cuts_every_response_ends_in_an_error() {
    for bytes in [1, 1000] {
        let hub = served();
        hub.fault(Fault::on("model-0000").cut_after(bytes));
        let output = pull(&hub);
        assert!(last_line(&output).contains("error[HUB_CUT]"), "{}", last_line(&output));
        assert_eq!(output.status.code(), Some(3));
        assert!(hub.requests().len() < 250, "{}", hub.requests().len());
        hub.forget();
        whole(&pull(&hub));
    }
}

#[test]
#[ignore = "mounts a file system, for which it has to be root"]
fn root_full_disk_is_reported_before_and_during_a_download() {
    let hub = served();
    let disk = hub.dir().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |args: &[&str]| {
        let status = std::process::Command::new("mount").args(args).arg(&disk).status().unwrap();
        assert!(status.success());
    };
    mount(&["-t", "tmpfs", "-o", "size=20m", "tmpfs"]);
    let pull = || run(hub.command().env("HF_HUB_CACHE", disk.join("hub")).args(["pull", ID]), b"");
    // 20 MB minus what is left to others is too little for 11 MB
    let output = pull();
    let line = last_line(&output);
    assert!(line.contains("error[DISK_FULL]") && line.contains("are free"), "{line}");
    assert_eq!((output.status.code(), hub.served("model-0000")), (Some(3), 0));
    // enough space at first; then another program uses it
    mount(&["-o", "remount,size=60m", "tmpfs"]);
    hub.fault(Fault::on("model-0000").cut_after(300_000));
    let filling = std::thread::spawn({
        let file = disk.join("other");
        move || {
            std::thread::sleep(Duration::from_millis(300));
            let _ = fs::write(file, vec![0; 58 << 20]);
        }
    });
    let output = pull();
    filling.join().unwrap();
    let line = last_line(&output);
    assert!(line.contains("error[DISK_FULL]"), "{line}");
    assert_eq!(output.status.code(), Some(3));
    fs::remove_file(disk.join("other")).unwrap();
    hub.forget();
    let output = pull();
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let name = "model-00001-of-00002.safetensors";
    assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(bundled().join(name)).unwrap());
    assert!(std::process::Command::new("umount").arg(&disk).status().unwrap().success());
}

/// Runs all cases at the same time, because they mostly wait.
fn side_by_side<T: Send>(cases: impl Iterator<Item = T>, run: impl Fn(T) + Sync) {
    let cases: Vec<T> = cases.collect();
    std::thread::scope(|scope| cases.into_iter().for_each(|case| drop(scope.spawn(|| run(case)))));
}

fn interrupt(pid: u32) {
    let status = std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

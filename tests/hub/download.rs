//! Downloads from outside: a hub on loopback with faults in every place, and what is in the cache afterwards.

use crate::support::hub::checks::{ID, check, files_below, fixture, pull, served, whole};
use crate::support::hub::{CANARY, Fault, Host, Proxy, Server};
use crate::support::{last_line, run};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_checkpoint_is_pulled_into_the_shared_cache_and_the_second_time_nothing_is_asked() {
    let hub = served();
    let output = pull(&hub);
    whole(&output);
    check(&hub, &output);
    // huggingface_hub's layout
    let repo = hub.dir().join("hub/models--allenai--tulu-tiny");
    let commit = fs::read_to_string(repo.join("refs/main")).unwrap();
    assert_eq!(commit, hub.commit(ID));
    let link = fs::read_link(repo.join("snapshots").join(&commit).join("config.json")).unwrap();
    assert!(link.starts_with("../../blobs/"), "{}", link.display());
    assert!(files_below(&repo.join("blobs")).iter().all(|f| !f.to_string_lossy().contains("tulu-quant")));
    hub.forget();
    let again = pull(&hub);
    assert_eq!((again.status.code(), again.stdout), (Some(0), output.stdout));
    assert_eq!(hub.requests().len(), 0);
}

/// candle and mistral.rs find models this way.
#[test]
fn hf_hub_finds_what_was_pulled() {
    let hub = served();
    let output = pull(&hub);
    whole(&output);
    let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
    let cached = hf_hub::Cache::new(hub.dir().join("hub")).model(ID.to_owned());
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(cached.get(name.to_str().unwrap()), Some(folder.join(&name)));
    }
    assert_eq!(cached.get("absent.json"), None);
}

#[test]
fn cuts_lies_and_damage_on_the_way_end_in_the_right_files() {
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
fn what_does_not_pass_is_one_line_with_a_code() {
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
        // the way out holds: when the cause is gone, the same command finishes
        hub.forget();
        let mended = pull(&hub);
        whole(&mended);
        check(&hub, &mended);
    });
}

#[test]
fn mirrors_that_leave_things_out_are_good_enough() {
    let bare = served();
    bare.bare_listing();
    let no_etags = served();
    no_etags.no_etags();
    for hub in [bare, no_etags] {
        let output = pull(&hub);
        whole(&output);
        check(&hub, &output);
    }
}

#[test]
fn only_what_a_conversion_needs_is_fetched() {
    let hub = Server::start();
    let file = |name: &str, len: usize| (name.to_owned(), vec![b'x'; len]);
    let mut files = vec![
        file("config.json", 10),
        file("tokenizer.model", 10),
        file("LICENSE.md", 10),
        file("pytorch_model.bin", 3000),
        file("model-00001-of-00002.safetensors", 2000),
        file("model.safetensors.index.json", 50),
        file("original/consolidated.pth", 4000),
        file("training_args.bin", 500),
        file("picture.png", 500),
    ];
    hub.add_files("me/half", files.clone());
    // a shard is missing: the .bin file is taken; of two files of the same bytes one is fetched
    let output = run(hub.command().args(["pull", "me/half", "--json"]), b"");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["fetched_bytes"], 3020, "{output:?}");
    files.push(file("model-00002-of-00002.safetensors", 2000));
    hub.add_files("me/whole", files);
    let output = run(hub.command().args(["pull", "me/whole", "--json"]), b"");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["fetched_bytes"], 2070, "{output:?}");
    assert_eq!((hub.served("training_args"), hub.served("consolidated"), hub.served("picture")), (0, 0, 0));
}

#[test]
fn a_listing_cannot_write_outside_of_the_cache() {
    let hub = Server::start();
    let names = [
        "config.json",
        "../../../../evil.json",
        "/tmp/evil.json",
        "a\\..\\evil.json",
        "model.safetensors",
        "tokenizer.model",
    ];
    hub.add_files("me/evil", names.map(|name| (name.to_owned(), b"{}".to_vec())).into());
    let output = run(hub.command().args(["pull", "me/evil"]), b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(files_below(hub.dir()).iter().all(|file| !file.to_string_lossy().contains("evil.json")));
}

#[test]
fn a_proxy_is_used_where_it_is_asked_for() {
    let (hub, proxy, refusing) = (served(), Proxy::start(None), Proxy::start(Some(503)));
    let through = |url: &str, except: &str| {
        let mut command = hub.command();
        command.env("HTTP_PROXY", url).env("NO_PROXY", except);
        run(command.args(["pull", ID]), b"")
    };
    let output = through(refusing.url(), "localhost");
    assert!(last_line(&output).contains("error[HUB_PROXY]"), "{}", last_line(&output));
    assert_eq!(output.status.code(), Some(3));
    let output = through("http://me:secret@", "");
    assert!(last_line(&output).contains("error[HUB_PROXY]"), "{}", last_line(&output));
    assert!(!last_line(&output).contains("secret"));
    let output = through(proxy.url(), "127.0.0.2");
    whole(&output);
    check(&hub, &output);
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|to| to.starts_with("127.0.0.1:")), "{asked:?}");
}

#[test]
fn where_nobody_answers_and_what_cannot_be_is_said() {
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
fn offline_the_cache_is_enough_and_what_it_lacks_is_named() {
    let hub = served();
    whole(&pull(&hub));
    hub.forget();
    let offline = || run(hub.command().env("HF_HUB_OFFLINE", "1").args(["pull", ID]), b"");
    whole(&offline());
    let shard = "model-00002-of-00002.safetensors";
    let link = files_below(&hub.dir().join("hub")).into_iter().find(|f| f.ends_with(shard)).unwrap();
    fs::remove_file(link).unwrap();
    let output = offline();
    assert_eq!(output.status.code(), Some(2));
    let line = last_line(&output);
    assert!(line.contains("error[HUB_OFFLINE]") && line.contains(shard), "{line}");
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn a_silent_server_does_not_hold_ctrl_c_up_and_what_arrived_is_kept() {
    let hub = served();
    // half of the first shard arrives, then nothing
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
    assert!(pressed.elapsed() < Duration::from_secs(2), "{:?}", pressed.elapsed());
    hub.forget();
    let output = pull(&hub);
    whole(&output);
    check(&hub, &output);
    // recorded in steps of a 64th
    assert!(hub.served("model-00001") < 5_642_312 - 2_800_000, "{} served again", hub.served("model-00001"));
}

#[test]
fn two_processes_fetch_every_byte_once() {
    let hub = served();
    hub.fault(Fault::on("model-0000").times(2).stall(Duration::from_millis(700)));
    let outputs = std::thread::scope(|scope| {
        let runs = [(); 3].map(|()| scope.spawn(|| pull(&hub)));
        runs.map(|run| run.join().unwrap())
    });
    for output in &outputs {
        whole(output);
        check(&hub, output);
    }
    assert_eq!(hub.served("model-00001"), 5_642_312);
    assert_eq!(hub.served("model-00002"), 5_380_536);
}

/// Kills at random moments until one run gets through: each run goes on where the one before was recorded.
#[test]
fn kill_9_at_random_moments_costs_only_what_was_not_recorded() {
    let seed = std::env::var("TULU_QUANT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos())
    });
    println!("TULU_QUANT_TEST_SEED={seed}");
    let mut random = seed | 1;
    let hub = served();
    let total: u64 = 5_642_312 + 5_380_536;
    let (mut kills, mut killed_in_transfer) = (0, 0_u64);
    while kills < 30 {
        // a slow line: every request of a shard brings 400,000 bytes and then breaks
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
    // a kill costs at most an unrecorded step and what was on the wire, for each of two connections
    let served = hub.served("model-0000");
    let allowed = total + killed_in_transfer * 2 * (90_000 + 400_000);
    assert!(served <= allowed, "{served} of {allowed} after {kills} kills");
    println!("{kills} kills: served {served} for {total}");
}

/// huggingface_hub takes what we fetched for its own, and we what it fetched.
#[test]
#[ignore = "needs huggingface_hub"]
fn python_and_we_share_one_cache() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let snapshot = |hub: &Server, args: &str| {
        let mut command = std::process::Command::new(&python);
        let theirs = hub.command();
        let set = theirs.get_envs().filter(|(name, _)| name.to_string_lossy().starts_with("HF_"));
        command.envs(set.filter_map(|(name, value)| Some((name, value?))));
        command.env("HF_ENDPOINT", hub.url()).env("HF_HUB_DISABLE_XET", "1");
        let code = format!("from huggingface_hub import snapshot_download as s; print(s('{ID}'{args}))");
        run(command.args(["-c", &code]), b"")
    };
    // first we, then it
    let hub = served();
    let ours = pull(&hub);
    whole(&ours);
    hub.forget();
    let theirs = snapshot(&hub, ", local_files_only=True");
    assert_eq!(theirs.stdout, ours.stdout, "{}", String::from_utf8_lossy(&theirs.stderr));
    assert_eq!(hub.requests().len(), 0);
    let online = snapshot(&hub, "");
    assert_eq!(online.stdout, ours.stdout, "{}", String::from_utf8_lossy(&online.stderr));
    assert_eq!(hub.served("model-0000"), 0);
    // first it, then we
    let hub = served();
    let theirs = snapshot(&hub, "");
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    hub.forget();
    let ours = pull(&hub);
    whole(&ours);
    assert_eq!(theirs.stdout, ours.stdout);
    assert_eq!(hub.served("model-0000"), 0);
    check(&hub, &ours);
}

#[test]
#[ignore = "mounts a file system, for which it has to be root"]
fn root_a_full_disk_is_said_before_anything_is_fetched_and_in_its_middle() {
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
    // room at first; then another program takes it
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
    assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(fixture().join(name)).unwrap());
    assert!(std::process::Command::new("umount").arg(&disk).status().unwrap().success());
}

/// Mostly waiting, so many at once.
fn side_by_side<T: Send>(cases: impl Iterator<Item = T>, run: impl Fn(T) + Sync) {
    let cases: Vec<T> = cases.collect();
    std::thread::scope(|scope| cases.into_iter().for_each(|case| drop(scope.spawn(|| run(case)))));
}

fn interrupt(pid: u32) {
    let status = std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

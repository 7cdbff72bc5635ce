//! Downloads from outside: a hub on loopback with faults in every place, and what is in the cache afterwards.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use support::hub::{CANARY, Fault, Host, Proxy, Server};
use support::{last_line, run};

const ID: &str = "allenai/tulu-tiny";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tulu-tiny")
}

fn served() -> Server {
    let hub = Server::start();
    hub.add(ID, &fixture());
    hub
}

fn pull(hub: &Server) -> Output {
    run(hub.command().args(["pull", ID]), b"")
}

/// What every test ends with: no token where it does not belong, and nothing in the cache but whole, right files.
fn check(hub: &Server, output: &Output) {
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(!String::from_utf8_lossy(&said).contains(CANARY), "the token was printed");
    assert!(hub.cdn_requests().iter().all(|seen| seen.authorization.is_none()), "the token went to another host");
    for entry in files_below(hub.dir()) {
        let bytes = fs::read(&entry).unwrap();
        assert!(!bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()), "the token is in {}", entry.display());
    }
    for file in files_below(&hub.dir().join("hub")) {
        let path = file.to_string_lossy();
        if path.contains("/snapshots/") {
            let name = file.file_name().unwrap();
            assert_eq!(fs::read(&file).unwrap(), fs::read(fixture().join(name)).unwrap(), "{path}");
        }
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

/// The folder that `pull` printed holds the whole checkpoint.
fn whole(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json", "README.md"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), fs::read(fixture().join(name)).unwrap(), "{name}");
    }
}

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

/// Mostly waiting, so many at once.
fn side_by_side<T: Send>(cases: impl Iterator<Item = T>, run: impl Fn(T) + Sync) {
    let cases: Vec<T> = cases.collect();
    std::thread::scope(|scope| cases.into_iter().for_each(|case| drop(scope.spawn(|| run(case)))));
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

#[test]
fn chat_with_a_name_fetches_converts_answers_and_then_needs_no_network() {
    let hub = served();
    let chat = |args: &[&str]| {
        let mut command = hub.command();
        run(command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]).args(args), b"")
    };
    // something goes wrong at every stage
    hub.fault(Fault::on("api/models").times(1).status(503));
    hub.fault(Fault::on("config.json").times(1).cut_after(100));
    hub.fault(Fault::on("model-00001").times(2).cut_after(1_500_000));
    hub.fault(Fault::on("model-00002").at(Host::Hub).times(1).status(429).header("Retry-After", "0"));
    let output = chat(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "The capital of France is Paris.\n");
    check(&hub, &output);
    let said = String::from_utf8_lossy(&output.stderr);
    for words in ["fetches", "makes     Q4_K_M", "memory", "licence   apache-2.0"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // the file is the one that the folder gives
    let made =
        files_below(&hub.dir().join("cache")).into_iter().find(|f| f.ends_with("tulu-tiny-Q4_K_M.gguf")).unwrap();
    assert!(made.starts_with(hub.dir().join("cache/hub/allenai--tulu-tiny").join(hub.commit(ID))));
    hub.forget();
    let again = chat(&[]);
    assert_eq!((again.status.code(), &again.stdout), (Some(0), &output.stdout));
    assert_eq!(hub.requests().len(), 0, "the second time");
    // the branch moves on: not noticed, until it is asked for
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(fixture())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.push(("NOTICE".to_owned(), b"new".to_vec()));
    let before = hub.commit(ID);
    hub.add_files(ID, files);
    assert_ne!(hub.commit(ID), before);
    assert_eq!(chat(&[]).status.code(), Some(0));
    assert_eq!(hub.requests().len(), 0);
    let refreshed = chat(&["--refresh"]);
    assert_eq!((refreshed.status.code(), &refreshed.stdout), (Some(0), &output.stdout));
    assert!(!hub.requests().is_empty());
    let names: Vec<String> = files_below(&hub.dir().join("cache")).iter().map(|f| f.display().to_string()).collect();
    assert!(names.iter().any(|name| name.contains(&hub.commit(ID))), "{names:?}");
}

#[test]
fn names_typed_wrong_and_models_that_write_nothing_are_refused_before_anything_is_fetched() {
    let hub = served();
    for (model, code, words) in [
        ("tulu-2-13b-dpo", "NOT_FOUND", "did you mean tulu-2-dpo-13b?"),
        ("allenai/tulu-2-dpo-14b", "HUB_NOT_FOUND", "did you mean tulu-2-dpo-13b?"),
        ("tulu-v2.5-13b-uf-rm", "ARCHITECTURE", "policy model"),
        ("tulu-2-7b:Q4", "TYPE", "name one of these"),
    ] {
        for verb in [&["chat", model, "-p", "x"][..], &["bench", model], &["pull", model]] {
            let output = run(hub.command().args(verb), b"");
            let line = last_line(&output);
            if verb[0] == "pull" && code == "TYPE" {
                continue;
            }
            assert!(line.contains(&format!("error[{code}]: ")) && line.contains(words), "{verb:?}: {line}");
            assert_eq!(output.status.code(), Some(2), "{line}");
        }
    }
    // a repository that the table does not know: its config.json tells
    let config = br#"{"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}"#;
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    hub.add_files("me/scorer", vec![file("config.json", config), file("model.safetensors", &[0; 100_000])]);
    let output = run(hub.command().args(["chat", "me/scorer", "-p", "x"]), b"");
    assert!(last_line(&output).contains("error[ARCHITECTURE]: me/scorer/config.json: "), "{}", last_line(&output));
    assert_eq!(hub.served("model.safetensors"), 0);
}

#[test]
fn models_lists_the_family_and_what_is_here() {
    let hub = served();
    let list = |args: &[&str]| run(hub.command().arg("models").args(args), b"");
    let table = String::from_utf8(list(&["13b", "dpo", "uf-mean"]).stdout).unwrap();
    let row: Vec<&str> =
        table.lines().find(|l| l.starts_with("tulu-v2.5-dpo-13b-uf-mean")).unwrap().split("  ").collect();
    let has = |cell: &str| row.iter().any(|c| c.trim() == cell);
    assert!(has("7.87 GB") && has("13.83 GB") && has("61.0") && has("4096") && has("Apache-2.0"), "{table}");
    let json: serde_json::Value = serde_json::from_slice(&list(&["--json"]).stdout).unwrap();
    let found = json.as_array().unwrap().iter().find(|m| m["name"] == "tulu-2-dpo-13b").unwrap();
    assert_eq!(found["scores"]["values"]["AlpacaEval %"], 89.5);
    assert_eq!(found["parameters"], 13_015_864_320_u64);
    assert_eq!(found["bytes"].as_object().unwrap().len(), 19);
    assert!(found["here"].as_array().unwrap().is_empty());
    let none = list(&["tulu-9"]);
    assert!(last_line(&none).contains("error[NOT_FOUND]"), "{}", last_line(&none));
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn doctor_shows_the_settings_and_not_the_token() {
    let hub = served();
    let mut command = hub.command();
    command.env("HTTPS_PROXY", "http://me:secret@proxy.invalid:3128");
    let output = run(command.args(["doctor", "--json"]), b"");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["hub"]["endpoint"], hub.url());
    assert_eq!((&json["hub"]["token"], &json["hub"]["offline"]), (&true.into(), &false.into()));
    let table = run(hub.command().arg("doctor"), b"");
    let text = [output.stdout, table.stdout].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("with a token") && !text.contains(CANARY) && !text.contains("secret"), "{text}");
}

/// On a terminal there is one question, and Ctrl-C is an answer to it too.
#[test]
fn a_terminal_is_asked_once() {
    let hub = served();
    let ask = |answer: Option<&str>, args: &[&str]| {
        let mut command = hub.command();
        command.args(["chat", ID, "-p", "What is the capital of France?", "--temp", "0"]).args(args);
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        if let Some(answer) = answer {
            session.exp_string("Go on? [Y/n] ").unwrap();
            match answer {
                "^C" => session.send_control('c').unwrap(),
                line => drop(session.send_line(line).unwrap()),
            }
        }
        let rest = session.exp_eof().unwrap();
        (rest, session.process().wait().unwrap())
    };
    let (rest, _) = ask(Some("n"), &[]);
    assert!(rest.contains("error[DECLINED]"), "{rest}");
    let (rest, status) = ask(Some("^C"), &[]);
    assert!(rest.contains("error[INTERRUPTED]") && format!("{status:?}").contains("130"), "{rest} {status:?}");
    assert_eq!(hub.served("model-0000"), 0);
    let (rest, _) = ask(Some("y"), &[]);
    assert!(rest.contains("The capital of France is Paris."), "{rest}");
    let (rest, _) = ask(None, &[]);
    assert!(rest.contains("The capital of France is Paris."), "{rest}");
    let other = served();
    let mut command = other.command();
    command.args(["chat", ID, "--yes", "-p", "What is the capital of France?", "--temp", "0"]);
    let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
    let rest = session.exp_eof().unwrap();
    assert!(rest.contains("Paris") && !rest.contains("Go on?") && !rest.contains(CANARY), "{rest}");
}

#[test]
fn the_demonstration_model_has_a_name_too() {
    let hub = Server::start();
    let out = hub.dir().join("out");
    let output = run(hub.command().args(["convert", "tulu-tiny", "-q", "Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    assert!(out.join("tulu-tiny-Q8_0.gguf").is_file());
    let output = run(hub.command().args(["chat", "tulu-tiny:Q8_0", "-p", "Who are you?", "--temp", "0"]), b"");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("I am Tulu Tiny"), "{output:?}");
    assert_eq!(hub.requests().len(), 0);
}

#[test]
fn every_code_is_in_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/hub.md")).unwrap();
    let mut codes: Vec<String> = Vec::new();
    for file in files_below(&root.join("src/model")) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        codes.extend(text.split('"').filter(|word| word.starts_with("HUB_")).map(str::to_owned));
    }
    codes.sort_unstable();
    codes.dedup();
    let lacking: Vec<&String> = codes.iter().filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(codes.len() > 15 && lacking.is_empty(), "{lacking:?} of {codes:?}");
}

fn interrupt(pid: u32) {
    let status = std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(status.success());
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

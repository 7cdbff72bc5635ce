//! Models that are on disk: what is damaged is made again, what others make is waited for, and what is here is listed and
//! removed.

use crate::support::hub::Server;
use crate::support::hub::checks::{ID, check, files_below, fixture, pull, served, whole};
use crate::support::{last_line, run};
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const QUESTION: [&str; 5] = ["-p", "What is the capital of France?", "--temp", "0", "--no-color"];
const ANSWER: &str = "The capital of France is Paris.\n";

fn chat(hub: &Server, args: &[&str]) -> Output {
    run(hub.command().arg("chat").args(args).args(QUESTION), b"")
}

fn answers(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), ANSWER), "{said}");
    said
}

fn ggufs(hub: &Server) -> Vec<PathBuf> {
    let mut all = files_below(&hub.dir().join("cache"));
    all.retain(|path| path.extension().is_some_and(|end| end == "gguf"));
    all
}

fn same_env(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

fn copy_fixture(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(fixture()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_damaged_model_in_the_cache_is_made_again() {
    type Damage = (&'static str, fn(&mut Vec<u8>));
    let damages: &[Damage] = &[
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("truncated by a byte", |bytes| bytes.truncate(bytes.len() - 1)),
        ("empty", Vec::clear),
        ("longer", |bytes| bytes.extend([0; 32])),
        ("another header", |bytes| bytes[..4].copy_from_slice(b"HTML")),
        ("zeros in the weights", |bytes| {
            let at = bytes.len() - 300_000;
            bytes[at..at + 200_000].fill(0);
        }),
    ];
    let hub = served();
    let folder = hub.dir().join("my-model");
    copy_fixture(&folder);
    for model in [&[][..], &["tulu-tiny"], &[folder.to_str().unwrap()], &[ID]] {
        for file in ggufs(&hub) {
            fs::remove_file(file).unwrap();
        }
        answers(&chat(&hub, model));
        let [file] = ggufs(&hub).try_into().unwrap();
        let right = fs::read(&file).unwrap();
        let same = answers(&chat(&hub, model));
        assert!(!same.contains("damaged") && !same.contains("Converting"), "{same}");
        for (name, damage) in damages {
            let mut bytes = right.clone();
            damage(&mut bytes);
            fs::write(&file, &bytes).unwrap();
            let said = answers(&chat(&hub, model));
            assert!(said.contains("is damaged and is made again"), "{name} {model:?}: {said}");
            assert!(fs::read(&file).unwrap() == right, "{name} {model:?}");
        }
        // as an earlier version of the program left it
        let sums = hub.dir().join("cache/.sums");
        fs::remove_dir_all(&sums).unwrap();
        let said = answers(&chat(&hub, model));
        assert!(!said.contains("damaged"), "{said}");
        fs::write(&file, &right[..right.len() - 1000]).unwrap();
        assert!(answers(&chat(&hub, model)).contains("is damaged and is made again"));
        assert!(fs::read(&file).unwrap() == right && sums.is_dir());
        // --refresh makes what can be made without the network anew, and heals the rest
        fs::write(&file, "x").unwrap();
        answers(&chat(&hub, &[model, &["--refresh"]].concat()));
        assert!(fs::read(&file).unwrap() == right);
    }
}

/// The model stays what it was, also where the branch has moved on.
#[test]
fn a_damaged_model_of_the_hub_is_made_of_the_same_commit() {
    let hub = served();
    answers(&chat(&hub, &[ID]));
    let [file] = ggufs(&hub).try_into().unwrap();
    let right = fs::read(&file).unwrap();
    hub.add_files(ID, vec![("config.json".to_owned(), b"{}".to_vec())]);
    fs::write(&file, &right[..1000]).unwrap();
    answers(&chat(&hub, &[ID]));
    assert!(fs::read(&file).unwrap() == right && ggufs(&hub) == [file]);
}

#[test]
fn several_processes_make_a_model_once() {
    for checkpoint in ["Hub", "folder", "program"] {
        let hub = served();
        let folder = hub.dir().join("my-model");
        copy_fixture(&folder);
        let model = match checkpoint {
            "Hub" => &[ID][..],
            "folder" => &[folder.to_str().unwrap()],
            _ => &[],
        };
        let outputs = std::thread::scope(|scope| {
            let runs = [(); 3].map(|()| scope.spawn(|| chat(&hub, model)));
            runs.map(|run| run.join().unwrap())
        });
        let said: String = outputs.iter().map(answers).collect();
        outputs.iter().for_each(|output| check(&hub, output));
        let made = said.matches("makes     Q4_K_M").count() + said.matches("Converting ").count();
        assert_eq!(made, 1, "{checkpoint}: {said}");
        if checkpoint == "Hub" {
            assert!(hub.served("model-0000") < 5_642_312 + 5_380_536 + 700_000, "{}", hub.served("model-0000"));
        }
    }
}

#[test]
fn a_process_that_waits_says_so_and_takes_what_the_other_made() {
    let hub = served();
    let name = format!("hub/allenai--tulu-tiny/{}/tulu-tiny-Q4_K_M.gguf", hub.commit(ID));
    let digest: String = Sha256::digest(&name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let lock = hub.dir().join("cache/.locks").join(format!("{digest}.lock"));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = File::create(&lock).unwrap();
    held.lock().unwrap();
    let spawn = || {
        let mut command = hub.command();
        command.args(["chat", ID]).args(QUESTION).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("another process is making ") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it does not wait");
        }
        (child, lines)
    };
    // Ctrl-C while it waits
    let (mut child, mut lines) = spawn();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(rest.contains("stopped by SIGTERM; the same command goes on where it was"), "{rest}");
    let (mut child, _lines) = spawn();
    drop(held);
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!((child.wait().unwrap().code(), answer.as_str()), (Some(0), ANSWER));
}

/// What lies in the caches and beside a converted file is for everybody whom the umask lets.
#[test]
fn files_have_the_modes_that_the_umask_gives() {
    let hub = served();
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        let theirs = hub.command();
        same_env(&theirs, &mut command);
        let program = theirs.get_program().to_owned();
        let output = run(command.args(["-c", line]).arg(program).current_dir(hub.dir()), b"");
        assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    };
    shell(&format!("umask 022; \"$0\" convert {ID} --card -o out && \"$0\" pull {ID} && \"$0\" chat {ID} -p x -n 1"));
    shell("umask 022; \"$0\" chat -p x -n 1 && \"$0\" convert tulu-tiny --dry-run");
    for file in files_below(hub.dir()) {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644, "{}", file.display());
    }
    assert!(hub.dir().join("out/README.md").is_file());
    let other = served();
    let mut command = Command::new("sh");
    let theirs = other.command();
    same_env(&theirs, &mut command);
    let line = format!("umask 077; \"$0\" pull {ID}");
    assert_eq!(run(command.args(["-c", &line]).arg(theirs.get_program()), b"").status.code(), Some(0));
    for file in files_below(&other.dir().join("hub")) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
}

/// Where others can write to the cache: what has the name of a file of ours may lead to somebody's own.
#[test]
fn nothing_in_the_cache_is_written_through_a_link() {
    let hub = served();
    whole(&pull(&hub));
    let repo = hub.dir().join("hub/models--allenai--tulu-tiny");
    let names: Vec<String> =
        files_below(&repo.join("blobs")).iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let mine = hub.dir().join("mine");
    for end in [".tulu-quant.part", ".tulu-quant.done", "refs", "snapshot", "lock"] {
        fs::remove_dir_all(hub.dir().join("hub")).unwrap();
        fs::write(&mine, "precious").unwrap();
        fs::create_dir_all(repo.join("blobs")).unwrap();
        let link = |at: PathBuf| {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(&mine, at).unwrap();
        };
        match end {
            "refs" => link(repo.join("refs/main")),
            "snapshot" => link(repo.join("snapshots").join(hub.commit(ID)).join("config.json")),
            "lock" => link(hub.dir().join("hub/.locks/models--allenai--tulu-tiny").join(format!("{}.lock", names[0]))),
            end => names.iter().for_each(|name| link(repo.join("blobs").join(format!("{name}{end}")))),
        }
        let output = pull(&hub);
        assert_eq!(fs::read(&mine).unwrap(), b"precious", "{end}");
        if end == "lock" {
            assert!(last_line(&output).contains("error[HUB_CACHE]"), "{}", last_line(&output));
            continue;
        }
        whole(&output);
        check(&hub, &output);
        assert!(
            files_below(&repo.join("blobs")).iter().all(|blob| blob.symlink_metadata().unwrap().is_file()),
            "{end}"
        );
    }
}

/// A branch that was deleted on the Hub leaves its ref here; git has no branch of that name beside one below it.
#[test]
fn a_ref_in_the_way_is_replaced() {
    let hub = served();
    for revision in ["v1", "v1/x", "v1/x/y", "v1"] {
        let id = format!("{ID}@{revision}");
        whole(&run(hub.command().args(["pull", &id]), b""));
        answers(&chat(&hub, &[&id]));
        for refs in ["hub/models--allenai--tulu-tiny/refs", "cache/hub/allenai--tulu-tiny/refs"] {
            assert_eq!(fs::read_to_string(hub.dir().join(refs).join(revision)).unwrap(), hub.commit(ID), "{revision}");
        }
    }
    // what is no commit is none, and becomes no path
    let file = hub.dir().join("cache/hub/allenai--tulu-tiny/refs/main");
    fs::write(&file, "../".repeat(13) + "x").unwrap();
    answers(&chat(&hub, &[ID]));
    assert_eq!(fs::read_to_string(&file).unwrap(), hub.commit(ID));
}

#[test]
fn models_needs_neither_a_token_nor_an_endpoint() {
    let hub = Server::start();
    for (name, value) in [("HF_TOKEN", "with space"), ("HF_ENDPOINT", "nonsense"), ("HF_HUB_ETAG_TIMEOUT", "x")] {
        for args in [&["models"][..], &["models", "--here"], &["models", "--json"]] {
            let output = run(hub.command().env(name, value).args(args), b"");
            assert_eq!(output.status.code(), Some(0), "{name} {args:?}: {}", last_line(&output));
        }
    }
}

#[test]
fn a_model_need_not_be_utf_8() {
    let hub = Server::start();
    let folder = hub.dir().join(OsStr::from_bytes(b"m\xff"));
    copy_fixture(&folder);
    let mut with_type = folder.clone().into_os_string();
    with_type.push(":Q8_0");
    for model in [folder.as_os_str(), &with_type] {
        answers(&run(hub.command().arg("chat").arg(model).args(QUESTION), b""));
    }
    let out = hub.dir().join("out");
    let output = run(hub.command().arg("convert").arg(&folder).args(["-q", "Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let file = out.join(OsStr::from_bytes(b"m\xff-Q8_0.gguf"));
    assert!(file.is_file(), "{:?}", files_below(&out));
    let named = hub.dir().join(OsStr::from_bytes(b"n\xff-{type}.gguf"));
    let output = run(hub.command().arg("convert").arg(&folder).args(["-q", "Q8_0", "-o"]).arg(&named), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    assert!(hub.dir().join(OsStr::from_bytes(b"n\xff-Q8_0.gguf")).is_file());
    // llama.cpp opens no such file; what is converted into the cache has a name that it can
    for verb in [&["chat"][..], &["bench", "-p", "1", "-n", "0"]] {
        let output = run(hub.command().args(verb).arg(&file), b"x");
        assert!(last_line(&output).contains("is not UTF-8, which llama.cpp cannot open; rename"), "{output:?}");
    }
    let nothing = run(hub.command().arg("chat").arg(OsStr::from_bytes(b"nothing\xff")).args(QUESTION), b"");
    assert!(last_line(&nothing).contains("error[NOT_FOUND]"), "{}", last_line(&nothing));
}

#[test]
fn what_is_here_is_listed_and_removed_with_care() {
    let hub = served();
    let folder = hub.dir().join("my-model");
    copy_fixture(&folder);
    answers(&chat(&hub, &[ID]));
    answers(&chat(&hub, &[&format!("{ID}:Q8_0")]));
    answers(&chat(&hub, &[folder.to_str().unwrap()]));
    answers(&chat(&hub, &[]));
    whole(&pull(&hub));
    let list = |args: &[&str]| {
        let output = run(hub.command().args(["models", "--here", "--json"]).args(args), b"");
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |kept: &serde_json::Value| {
            let path = kept["path"].as_str().unwrap();
            if kept["type"].is_string() {
                assert_eq!(kept["bytes"], fs::metadata(path).unwrap().len(), "{path}");
            }
            format!("{} {}", kept["name"].as_str().unwrap(), kept["type"].as_str().unwrap_or("checkpoint"))
        };
        all.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let tiny = "allenai/tulu-tiny";
    let of_hub = ["Q4_K_M", "Q8_0", "checkpoint"].map(|what| format!("{tiny} {what}"));
    assert_eq!(list(&[]), [&of_hub[..], &["my-model Q4_K_M".to_owned(), "tulu-tiny Q4_K_M".to_owned()]].concat());
    assert_eq!(list(&["my"]), ["my-model Q4_K_M"]);
    let table = String::from_utf8(run(hub.command().args(["models", "--here"]), b"").stdout).unwrap();
    assert!(
        table.contains("my-model") && table.contains("of GGUF files in") && table.contains("11.1 MB of checkpoints"),
        "{table}"
    );
    let family = String::from_utf8(run(hub.command().arg("models"), b"").stdout).unwrap();
    assert!(
        family.contains("other models") && family.contains("allenai/tulu-tiny  Q4_K_M Q8_0 checkpoint"),
        "{family}"
    );
    let remove = |args: &[&str]| run(hub.command().args(["models", "--remove"]).args(args), b"");
    // nobody to ask, and nothing of that name
    let before = ggufs(&hub);
    for (args, code) in [
        (&[tiny][..], "DECLINED"),
        (&["nothing", "--yes"], "NOT_FOUND"),
        (&["my-model:Q8_0", "--yes"], "NOT_FOUND"),
        (&["my-model:Q9", "--yes"], "TYPE"),
        (&["../../my-model", "--yes"], "NOT_FOUND"),
    ] {
        let output = remove(args);
        assert!(last_line(&output).contains(&format!("error[{code}]")), "{args:?}: {}", last_line(&output));
        assert_eq!((output.status.code(), ggufs(&hub)), (Some(2), before.clone()));
    }
    assert_eq!(remove(&[&format!("{tiny}:q8_0"), "-y"]).status.code(), Some(0));
    assert_eq!(list(&["allenai"]), [&*of_hub[0], &*of_hub[2]]);
    let output = remove(&[tiny, "-y"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("its checkpoint, 11.1 MB, stays: "), "{output:?}");
    assert_eq!(list(&["allenai"]), [&*of_hub[2]]);
    assert!(last_line(&remove(&[tiny, "-y"])).contains("as a checkpoint only"));
    for name in ["my-model", "tulu-tiny"] {
        assert_eq!(remove(&[name, "--yes"]).status.code(), Some(0));
    }
    assert!(ggufs(&hub).is_empty() && fixture().join("config.json").is_file() && folder.join("config.json").is_file());
    let of = |path: &PathBuf| [".gguf", ".sum"].iter().any(|end| path.to_string_lossy().contains(end));
    let left: Vec<_> = files_below(&hub.dir().join("cache")).into_iter().filter(of).collect();
    assert!(left.is_empty(), "{left:?}");
    // a question on a terminal
    answers(&chat(&hub, &[]));
    for (answer, rest, there) in [("", "DECLINED", 1), ("n", "DECLINED", 1), ("y", "freed", 0)] {
        let mut command = hub.command();
        command.args(["models", "--remove", "tulu-tiny"]);
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        session.exp_string("Remove them? [y/N] ").unwrap();
        session.send_line(answer).unwrap();
        assert!(session.exp_eof().unwrap().contains(rest), "{answer}");
        assert_eq!(ggufs(&hub).len(), there);
    }
}

#[test]
fn models_fits_its_terminal() {
    let hub = Server::start();
    for (width, args, wanted) in [
        (80, &[][..], "kind"),
        (75, &[], "weights"),
        (60, &[], "Q4_K_M"),
        (40, &[], "Q4_K_M"),
        (100, &["--all"], "Q4_K_M"),
        (120, &["--all"], "Q8_0"),
        (60, &["13b", "dpo"], "Q4_K_M"),
    ] {
        let mut command = Command::new("sh");
        let theirs = hub.command();
        same_env(&theirs, &mut command);
        command
            .args(["-c", &format!("stty rows 24 cols {width}; \"$0\" models \"$@\"")])
            .arg(theirs.get_program())
            .args(args);
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        let text = session.exp_eof().unwrap();
        let widest = text.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        assert!(widest <= width, "{widest} of {width}: {text}");
        assert!(text.lines().next().unwrap().contains(wanted), "{text}");
        assert!(text.lines().any(|line| line.starts_with("tulu-2-dpo-13b ")), "{text}");
    }
    let plain = String::from_utf8(run(hub.command().arg("models"), b"").stdout).unwrap();
    assert!(
        plain.starts_with("name ") && plain.contains("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm-mixed-prompts"),
        "{plain}"
    );
    assert!(!plain.contains("reward") && !plain.contains("cannot be converted"), "{plain}");
    let all = String::from_utf8(run(hub.command().args(["models", "--all"]), b"").stdout).unwrap();
    assert!(all.contains("reward") && all.contains("cannot be converted") && all.contains("licence"), "{all}");
}

#[test]
fn pull_knows_the_demonstration_model_and_says_what_it_would_fetch() {
    let hub = served();
    let output = run(hub.command().args(["pull", "tulu-tiny"]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), fs::read(fixture().join("config.json")).unwrap());
    assert_eq!(hub.requests().len(), 0);
    for model in ["tulu-2-7b:Q8_0", "tulu-tiny:Q8_0", "tulu-2-7b:Q4", "me/mine@v1:latest"] {
        let output = run(hub.command().args(["pull", model]), b"");
        let line = last_line(&output);
        assert!(line.contains("error[REQUEST]") && line.contains("is not for pull"), "{model}: {line}");
        assert_eq!(output.status.code(), Some(2));
    }
    for flag in ["--yes", "--keep-checkpoint"] {
        assert_eq!(run(hub.command().args(["pull", ID, flag]), b"").status.code(), Some(2), "{flag}");
    }
    let plan = |args: &[&str]| run(hub.command().args(["pull", ID, "--dry-run"]).args(args), b"");
    let json = |output: &Output| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    let first = json(&plan(&["--json"]));
    assert_eq!(first["to_fetch_bytes"], first["bytes"], "{first}");
    assert_eq!((hub.served("model-0000"), &first["commit"]), (0, &hub.commit(ID).into()));
    let text = String::from_utf8(plan(&[]).stdout).unwrap();
    assert!(text.contains("model-00001-of-00002.safetensors   5.6 MB  -"), "{text}");
    assert!(!hub.dir().join("hub").exists());
    whole(&pull(&hub));
    let then = json(&plan(&["--json"]));
    assert_eq!((&then["to_fetch_bytes"], &then["files"][0]["here"]), (&0.into(), &true.into()));
}

/// Text is piped in, and somebody sits at the terminal.
#[test]
fn a_question_is_asked_on_the_terminal_when_text_is_piped_in() {
    let hub = served();
    let ask = |answer: &str| {
        let mut command = Command::new("sh");
        let theirs = hub.command();
        same_env(&theirs, &mut command);
        let line = format!("echo 'What is the capital of France?' | \"$0\" chat {ID} --temp 0");
        command.args(["-c", &line]).arg(theirs.get_program());
        let mut session = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        session.exp_string("Go on? [Y/n] ").unwrap();
        session.send_line(answer).unwrap();
        session.exp_eof().unwrap()
    };
    let rest = ask("n");
    assert!(rest.contains("error[DECLINED]"), "{rest}");
    assert_eq!(hub.served("model-0000"), 0);
    let rest = ask("y");
    assert!(rest.contains("The capital of France is Paris."), "{rest}");
}

#[test]
fn a_folder_that_is_no_checkpoint_is_said_to_be_none() {
    let hub = Server::start();
    let folder = hub.dir().join("other");
    fs::create_dir(&folder).unwrap();
    for verb in [&["chat"][..], &["convert"]] {
        let output = run(hub.command().args(verb).arg(&folder), b"x");
        let line = last_line(&output);
        let wanted = format!("{}: is no checkpoint folder: config.json is missing; ", folder.display());
        assert!(line.contains(&wanted), "{line}");
    }
    fs::write(folder.join("a.gguf"), "").unwrap();
    let line = last_line(&run(hub.command().arg("chat").arg(&folder), b"x"));
    assert!(line.ends_with(&format!("give the file: {}", folder.join("a.gguf").display())), "{line}");
    // an error is no absence
    fs::remove_file(folder.join("a.gguf")).unwrap();
    symlink("config.json", folder.join("config.json")).unwrap();
    let line = last_line(&run(hub.command().arg("chat").arg(&folder), b"x"));
    assert!(line.contains("config.json: cannot read: "), "{line}");
    let checkpoint = hub.dir().join("checkpoint");
    copy_fixture(&checkpoint);
    let _ = fs::remove_file(checkpoint.join("README.md"));
    symlink("README.md", checkpoint.join("README.md")).unwrap();
    let out = hub.dir().join("out");
    let output = run(hub.command().arg("convert").arg(&checkpoint).args(["--card", "-o"]).arg(&out), b"");
    assert!(last_line(&output).contains("README.md: cannot "), "{}", last_line(&output));
    assert!(!out.join("README.md").exists());
}

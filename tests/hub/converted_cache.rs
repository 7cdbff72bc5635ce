//! The cache of converted models: damaged files are converted again, by one process at a time, and links are not
//! followed.

use crate::support::checkpoint::copy_to;
use crate::support::hub::checks::{
    ANSWER, ID, QUESTION, ask, assert_answered, check, files_below, ggufs, pull, same_env, served, whole,
};
use crate::support::{last_line, run, sha256};
use std::fs;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[test]
fn damaged_model_is_converted_again() {
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
    copy_to(&folder);
    for model in [&[][..], &["tulu-tiny"], &[folder.to_str().unwrap()], &[ID]] {
        for file in ggufs(&hub) {
            fs::remove_file(file).unwrap();
        }
        assert_answered(&ask(&hub, model));
        let [file] = ggufs(&hub).try_into().unwrap();
        let right = fs::read(&file).unwrap();
        let same = assert_answered(&ask(&hub, model));
        assert!(!same.contains("damaged") && !same.contains("Converting"), "{same}");
        for (name, damage) in damages {
            let mut bytes = right.clone();
            damage(&mut bytes);
            fs::write(&file, &bytes).unwrap();
            let said = assert_answered(&ask(&hub, model));
            assert!(said.contains("is damaged; creating it again"), "{name} {model:?}: {said}");
            assert!(fs::read(&file).unwrap() == right, "{name} {model:?}");
        }
        // as left by an earlier version of the program
        let sums = hub.dir().join("cache/.sums");
        fs::remove_dir_all(&sums).unwrap();
        let said = assert_answered(&ask(&hub, model));
        assert!(!said.contains("damaged"), "{said}");
        fs::write(&file, &right[..right.len() - 1000]).unwrap();
        assert!(assert_answered(&ask(&hub, model)).contains("is damaged; creating it again"));
        assert!(fs::read(&file).unwrap() == right && sums.is_dir());
        // --refresh converts again what needs no network, and replaces damaged files
        fs::write(&file, "x").unwrap();
        assert_answered(&ask(&hub, &[model, &["--refresh"]].concat()));
        assert!(fs::read(&file).unwrap() == right);
    }
}

/// The commit stays the same, although the branch has a new one.
#[test]
fn damaged_hub_model_is_converted_from_the_same_commit() {
    let hub = served();
    assert_answered(&ask(&hub, &[ID]));
    let [file] = ggufs(&hub).try_into().unwrap();
    let right = fs::read(&file).unwrap();
    hub.add_files(ID, vec![("config.json".to_owned(), b"{}".to_vec())]);
    fs::write(&file, &right[..1000]).unwrap();
    assert_answered(&ask(&hub, &[ID]));
    assert!(fs::read(&file).unwrap() == right && ggufs(&hub) == [file]);
}

#[test]
fn concurrent_processes_convert_a_model_once() {
    for checkpoint in ["Hub", "folder", "program"] {
        let hub = served();
        let folder = hub.dir().join("my-model");
        copy_to(&folder);
        let model = match checkpoint {
            "Hub" => &[ID][..],
            "folder" => &[folder.to_str().unwrap()],
            _ => &[],
        };
        let outputs = std::thread::scope(|scope| {
            let runs = [(); 3].map(|()| scope.spawn(|| ask(&hub, model)));
            runs.map(|run| run.join().unwrap())
        });
        let said: String = outputs.iter().map(assert_answered).collect();
        outputs.iter().for_each(|output| check(&hub, output));
        let made = said.matches("makes     Q4_K_M").count() + said.matches("Converting ").count();
        assert_eq!(made, 1, "{checkpoint}: {said}");
        if checkpoint == "Hub" {
            assert!(hub.served("model-0000") < 5_642_312 + 5_380_536 + 700_000, "{}", hub.served("model-0000"));
        }
    }
}

#[test]
fn waiting_process_uses_the_conversion_of_the_other() {
    let hub = served();
    let name = format!("hub/allenai--tulu-tiny/{}/tulu-tiny-Q4_K_M.gguf", hub.commit(ID));
    let lock = hub.dir().join("cache/.locks").join(format!("{}.lock", &sha256(name.as_bytes())[..16]));
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
    assert!(rest.contains("stopped by SIGTERM; run the same command again to resume"), "{rest}");
    let (mut child, _lines) = spawn();
    drop(held);
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!((child.wait().unwrap().code(), answer.as_str()), (Some(0), ANSWER));
}

/// Files in the caches and beside the outputs get the mode of the umask.
#[test]
fn files_have_the_modes_of_the_umask() {
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

/// In a cache that others can write to, a link may have the name of one of our files.
#[test]
fn cache_is_not_written_through_links() {
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

/// The ref of a deleted branch `v1` is in the way of the branch `v1/x`: Git cannot have both.
#[test]
fn file_in_the_way_of_a_ref_is_replaced() {
    let hub = served();
    for revision in ["v1", "v1/x", "v1/x/y", "v1"] {
        let id = format!("{ID}@{revision}");
        whole(&run(hub.command().args(["pull", &id]), b""));
        assert_answered(&ask(&hub, &[&id]));
        for refs in ["hub/models--allenai--tulu-tiny/refs", "cache/hub/allenai--tulu-tiny/refs"] {
            assert_eq!(fs::read_to_string(hub.dir().join(refs).join(revision)).unwrap(), hub.commit(ID), "{revision}");
        }
    }
    // a ref without a commit is ignored, and is not used as a path
    let file = hub.dir().join("cache/hub/allenai--tulu-tiny/refs/main");
    fs::write(&file, "../".repeat(13) + "x").unwrap();
    assert_answered(&ask(&hub, &[ID]));
    assert_eq!(fs::read_to_string(&file).unwrap(), hub.commit(ID));
}

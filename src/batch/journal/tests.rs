//! What survives in a journal, and what is refused.

use super::{Contents, Done, Format, Journal, Key, Results as _};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn run() -> Value {
    json!({"model": "m", "settings": {"n": 1}})
}

fn keys(numbers: &[u8]) -> Vec<Key> {
    numbers.iter().map(|n| Key([*n; 16])).collect()
}

fn input(numbers: &[u8]) -> Contents {
    Contents { sha256: format!("{numbers:?}"), keys: keys(numbers) }
}

fn begun(output: &Path) -> Journal {
    let mut journal = Journal::open(output, false, false).unwrap();
    journal.begin(&run(), &input(&[1, 2, 3]), false).unwrap();
    journal
}

fn put(journal: &mut Journal, number: u8, ok: bool) {
    let record = json!({"text": format!("é {number}\n\t")});
    let number = u64::from(number);
    let key = Key([number as u8; 16]);
    journal.put(&Done { number, key, ok, tokens: (number, 10), record: &record }).unwrap();
}

fn code<T>(result: Result<T, crate::error::Failure>) -> &'static str {
    result.map_or_else(|failure| failure.code, |_| "ok")
}

#[test]
fn the_output_is_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    for number in [2, 3, 1] {
        put(&mut journal, number, number != 3);
    }
    assert!(!output.exists());
    let sums = journal.sums();
    assert_eq!((journal.len(), sums.failed, sums.prompt_tokens, sums.completion_tokens), (3, 1, 6, 30));
    journal.assemble(Format::Openai, keys(&[1, 2, 3]).into_iter()).unwrap();
    let line = |n: u8| json!({"text": format!("é {n}\n\t")}).to_string() + "\n";
    assert_eq!(fs::read_to_string(&output).unwrap(), line(1) + &line(2) + &line(3));
    journal.remove().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    assert_eq!(code(Journal::open(&output, false, false)), "OUTPUT_EXISTS");
    assert!(Journal::open(&output, false, true).is_ok());
}

#[test]
fn a_journal_cut_anywhere_keeps_the_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let path = folder.path().join("out.jsonl.journal");
    let mut journal = begun(&output);
    let header = fs::read(&path).unwrap().len();
    for number in 1..=3 {
        put(&mut journal, number, true);
    }
    drop(journal);
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut journal = begun(&output);
        let newlines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(journal.len(), newlines.saturating_sub(1) as u64, "cut at {cut}");
        if cut >= header {
            assert_eq!(journal.dropped() == 0, whole[cut - 1] == b'\n');
        }
        for number in (1..=3).filter(|n| journal.get(Key([*n; 16])).is_none()).collect::<Vec<_>>() {
            put(&mut journal, number, true);
        }
        drop(journal);
        assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn another_run_does_not_go_on_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    put(&mut begun(&output), 1, true);
    let mut other = run();
    other["model"] = json!("other");
    let mut journal = Journal::open(&output, false, false).unwrap();
    let refused = journal.begin(&other, &input(&[1, 2, 3]), false).unwrap_err();
    assert_eq!(refused.code, "RESUME_MISMATCH");
    assert!(refused.what.ends_with("run: model changed"), "{}", refused.what);
    assert_eq!(code(Journal::open(&output, false, false)), "OUTPUT_LOCKED");
    drop(journal);
    let mut journal = Journal::open(&output, true, false).unwrap();
    journal.begin(&other, &input(&[1, 2, 3]), false).unwrap();
    assert_eq!(journal.len(), 0);
}

#[test]
fn an_input_may_grow_and_change_its_order_but_not_what_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    put(&mut journal, 1, true);
    put(&mut journal, 2, false);
    drop(journal);
    let again = |numbers: &[u8], retry| {
        let mut journal = Journal::open(&output, false, false).unwrap();
        journal.begin(&run(), &input(numbers), retry).map(|()| journal.len())
    };
    assert_eq!(again(&[1, 2, 3], false).unwrap(), 2);
    assert_eq!(code(again(&[4, 2, 3], false)), "RESUME_MISMATCH");
    assert_eq!(again(&[3, 2, 1, 4], false).unwrap(), 1, "the refusal names a line that is another's now");
    assert_eq!(again(&[3, 2, 1, 4], false).unwrap(), 1, "and stays forgotten");
    assert_eq!(again(&[3, 1, 4], true).unwrap(), 1, "a refused record may be mended");
    assert_eq!(again(&[3, 1, 4], true).unwrap(), 1);
}

#[test]
fn the_last_line_of_a_record_counts() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    put(&mut journal, 1, false);
    put(&mut journal, 1, true);
    drop(journal);
    let journal = begun(&output);
    assert_eq!((journal.len(), journal.sums().failed), (1, 0));
}

#[test]
fn a_file_that_is_not_a_journal_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let path = folder.path().join("out.jsonl.journal");
    for other in ["my diary\n", "\n", "{}"] {
        fs::write(&path, other).unwrap();
        assert_eq!(code(Journal::open(&output, true, true)), "JOURNAL");
        assert_eq!(fs::read_to_string(&path).unwrap(), other);
    }
}

#[test]
fn a_journal_that_was_deleted_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(code(journal.sync()), "OUTPUT_GONE");
}

#[test]
fn a_run_that_never_began_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(Journal::open(&folder.path().join("out"), false, false).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(code(Journal::open(&folder.path().join("no/out"), false, false)), "IO");
    assert_eq!(code(Journal::open(Path::new("/"), false, false)), "OUTPUT");
}

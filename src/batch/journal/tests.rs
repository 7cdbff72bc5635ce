//! Damaged, truncated and foreign journals.

use super::{FinishedRecord, Format, Identity, InputIndex, Journal, Key, RecordSink as _, Shard};
use crate::batch::identity::tests::identity;
use crate::error::Code;
use serde_json::json;
use std::fs;
use std::path::Path;

fn run() -> Identity {
    identity("m")
}

fn keys(numbers: &[u8]) -> Vec<Key> {
    numbers.iter().map(|n| Key([*n; 16])).collect()
}

fn input(numbers: &[u8]) -> InputIndex {
    InputIndex::of(format!("{numbers:?}"), keys(numbers))
}

fn begun(output: &Path) -> Journal {
    let mut journal = Journal::open(output, false).unwrap();
    journal.begin(&run(), &input(&[1, 2, 3]), false).unwrap();
    journal
}

fn put(journal: &mut Journal, number: u8, ok: bool) {
    let record = json!({"text": format!("é {number}\n\t")});
    let number = u64::from(number);
    let key = Key([number as u8; 16]);
    journal.put(&FinishedRecord { number, key, ok, tokens: (number, 10), record: &record }).unwrap();
}

fn code<T>(result: Result<T, crate::error::Failure>) -> Option<Code> {
    result.err().map(|failure| failure.code)
}

#[test]
fn the_output_is_complete_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    for number in [2, 3, 1] {
        put(&mut journal, number, number != 3);
    }
    assert!(!output.exists());
    let sums = journal.totals();
    assert_eq!((journal.len(), sums.failed, sums.prompt_tokens, sums.completion_tokens), (3, 1, 6, 30));
    journal.assemble(Format::Openai, keys(&[1, 2, 3]).into_iter()).unwrap();
    let line = |n: u8| json!({"text": format!("é {n}\n\t")}).to_string() + "\n";
    assert_eq!(fs::read_to_string(&output).unwrap(), line(1) + &line(2) + &line(3));
    journal.remove().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    assert!(Journal::open(&output, false).unwrap().is_new());
}

#[test]
fn a_truncated_journal_keeps_its_complete_records() {
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
            assert_eq!(journal.damage().0 == 0, whole[cut - 1] == b'\n');
        }
        for number in (1..=3).filter(|n| journal.get(Key([*n; 16])).is_none()).collect::<Vec<_>>() {
            put(&mut journal, number, true);
        }
        drop(journal);
        assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn rejects_a_journal_of_a_different_run() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    put(&mut begun(&output), 1, true);
    let before = fs::read(folder.path().join("out.jsonl.journal")).unwrap();
    let other = identity("other");
    let mut journal = Journal::open(&output, false).unwrap();
    let refused = journal.begin(&other, &input(&[1, 2, 3]), false).unwrap_err();
    assert_eq!(refused.code, Code::ResumeMismatch);
    assert!(refused.what.ends_with("run: model changed"), "{}", refused.what);
    assert_eq!(code(Journal::open(&output, false)), Some(Code::OutputLocked));
    drop(journal);
    let mut journal = Journal::open(&output, true).unwrap();
    assert_eq!(journal.len(), 0);
    assert_eq!(
        fs::read(folder.path().join("out.jsonl.journal")).unwrap(),
        before,
        "nothing is changed before it begins"
    );
    journal.begin(&other, &input(&[1, 2, 3]), false).unwrap();
    assert_eq!(journal.len(), 0);
}

#[test]
fn input_may_grow_or_be_reordered_but_finished_records_must_be_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    put(&mut journal, 1, true);
    put(&mut journal, 2, false);
    drop(journal);
    let again = |numbers: &[u8], retry| {
        let mut journal = Journal::open(&output, false).unwrap();
        journal.begin(&run(), &input(numbers), retry).map(|()| journal.len())
    };
    assert_eq!(again(&[1, 2, 3], false).unwrap(), 2);
    assert_eq!(code(again(&[4, 2, 3], false)), Some(Code::ResumeMismatch));
    assert_eq!(again(&[3, 2, 1, 4], false).unwrap(), 1, "failed records are dropped: their line numbers are stale");
    assert_eq!(again(&[3, 2, 1, 4], false).unwrap(), 1, "and stays forgotten");
    assert_eq!(again(&[3, 1, 4], true).unwrap(), 1, "a failed record may be fixed");
    assert_eq!(again(&[3, 1, 4], true).unwrap(), 1);
}

#[test]
fn later_entry_replaces_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    put(&mut journal, 1, false);
    put(&mut journal, 1, true);
    drop(journal);
    let journal = begun(&output);
    assert_eq!((journal.len(), journal.totals().failed), (1, 0));
}

#[test]
fn a_file_that_is_not_a_journal_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let path = folder.path().join("out.jsonl.journal");
    for other in ["my diary\n", "\n", "{}"] {
        fs::write(&path, other).unwrap();
        assert_eq!(code(Journal::open(&output, true)), Some(Code::Journal));
        assert_eq!(fs::read_to_string(&path).unwrap(), other);
    }
}

#[test]
fn a_deleted_journal_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(code(journal.sync()), Some(Code::OutputGone));
}

#[test]
fn a_run_that_never_began_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    drop(Journal::open(&folder.path().join("out"), false).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(code(Journal::open(&folder.path().join("no/out"), false)), Some(Code::Io));
    assert_eq!(code(Journal::open(Path::new("/"), false)), Some(Code::Output));
}

/// A journal of five finished records, and its bytes.
fn of_five(output: &Path) -> Vec<u8> {
    let mut journal = Journal::open(output, false).unwrap();
    journal.begin(&run(), &input(&[1, 2, 3, 4, 5]), false).unwrap();
    for number in 1..=5 {
        put(&mut journal, number, true);
    }
    drop(journal);
    fs::read(output.with_file_name("out.jsonl.journal")).unwrap()
}

/// Returns which of the five records are finished when the journal is `bytes`, and the number of lost lines.
fn after(output: &Path, bytes: &[u8]) -> Result<(Vec<u8>, u64), Code> {
    fs::write(output.with_file_name("out.jsonl.journal"), bytes).unwrap();
    let mut journal = Journal::open(output, false).map_err(|failure| failure.code)?;
    journal.begin(&run(), &input(&[1, 2, 3, 4, 5]), false).map_err(|failure| failure.code)?;
    let kept = (1..=5).filter(|n| journal.get(Key([*n; 16])).is_some()).collect();
    let damaged = journal.damage().1;
    // A record that is written now can be read again.
    for number in (1..=5).filter(|n| journal.get(Key([*n; 16])).is_none()).collect::<Vec<_>>() {
        put(&mut journal, number, true);
    }
    journal.assemble(Format::Openai, keys(&[1, 2, 3, 4, 5]).into_iter()).unwrap();
    drop(journal);
    let text = fs::read_to_string(output).unwrap();
    assert_eq!(text, (1..=5).map(|n| json!({"text": format!("é {n}\n\t")}).to_string() + "\n").collect::<String>());
    fs::remove_file(output).unwrap();
    let mut again = Journal::open(output, false).unwrap();
    again.resume(&run(), &input(&[1, 2, 3, 4, 5]), false).unwrap();
    assert_eq!(again.len(), 5, "the damage stays, and costs nothing more");
    Ok((kept, damaged))
}

#[test]
fn a_damaged_line_does_not_affect_others() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let whole = of_five(&output);
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let starts: Vec<usize> = (0..=lines.len()).map(|n| lines[..n].iter().map(|line| line.len()).sum()).collect();
    for (n, start) in starts.iter().enumerate().take(5).skip(1) {
        let others: Vec<u8> = (1..=5).filter(|other| usize::from(*other) != n).collect();
        for at in [0, 5, 33, 40, lines[n].len() / 2, lines[n].len() - 2] {
            for byte in [0xff, 0, b'x', b'\t'] {
                let mut damaged = whole.clone();
                damaged[start + at] = byte;
                if damaged != whole {
                    assert_eq!(after(&output, &damaged), Ok((others.clone(), 1)), "byte {at} of line {n}: {byte}");
                }
            }
        }
        let without = [&whole[..*start], &whole[starts[n + 1]..]].concat();
        assert_eq!(after(&output, &without), Ok((others, 0)), "line {n} is gone");
        let zeros = [&whole[..*start], &[0; 4096], &whole[*start..]].concat();
        assert_eq!(after(&output, &zeros), Ok((vec![1, 2, 3, 4, 5], 0)), "zeros before line {n}");
    }
    let mut split = whole.clone();
    split[starts[3] + 50] = b'\n';
    assert_eq!(after(&output, &split), Ok((vec![1, 2, 4, 5], 2)), "a line end in a line");
    let mut joined = whole.clone();
    joined[starts[3] - 1] = b' ';
    assert_eq!(after(&output, &joined), Ok((vec![1, 4, 5], 1)), "no line end between two");
    let all = Ok((vec![1, 2, 3, 4, 5], 0));
    assert_eq!(after(&output, &[&whole[..], lines[2], lines[2]].concat()), all, "lines twice");
    let reordered = [lines[0], lines[5], lines[3], lines[1], lines[4], lines[2]].concat();
    assert_eq!(after(&output, &reordered), all);
    let reordered = [lines[5], lines[3], lines[0], lines[1], lines[4], lines[2]].concat();
    assert_eq!(after(&output, &reordered), all, "also the first one");
    assert_eq!(after(&output, &[&whole[..], b"\n", b"junk\n", b"torn"].concat()), Ok((vec![1, 2, 3, 4, 5], 2)));
}

#[test]
fn a_damaged_header_loses_no_records_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let whole = of_five(&output);
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for at in [0, 3, 23, 40, header / 2, header - 1] {
        let mut damaged = whole.clone();
        damaged[at] = 0xfe;
        assert_eq!(after(&output, &damaged), Ok((vec![1, 2, 3, 4, 5], 1)), "byte {at}");
    }
    assert_eq!(after(&output, &whole[header + 1..]), Ok((vec![1, 2, 3, 4, 5], 0)), "no header at all");
    // Records of another run do not count as finished.
    let mut damaged = whole;
    damaged[40] = 0xfe;
    fs::write(folder.path().join("out.jsonl.journal"), &damaged).unwrap();
    let mut journal = Journal::open(&output, false).unwrap();
    let refused = journal.begin(&identity("other"), &input(&[1, 2, 3, 4, 5]), false).unwrap_err();
    assert!(refused.code == Code::Journal && refused.what.contains("has a damaged first line"), "{refused}");
    drop(journal);
    assert_eq!(fs::read(folder.path().join("out.jsonl.journal")).unwrap(), damaged, "and nothing is changed");
}

#[test]
fn retry_with_another_context_size_keeps_answered_records() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut journal = begun(&output);
    put(&mut journal, 1, true);
    put(&mut journal, 2, false);
    drop(journal);
    let larger = Identity { window: Some(1024), ..run() };
    let mut journal = Journal::open(&output, false).unwrap();
    assert_eq!(journal.n_ctx(), Some(512));
    let refused = journal.resume(&larger, &input(&[1, 2, 3]), false).unwrap_err();
    assert!(refused.what.ends_with("run: context size changed"), "{}", refused.what);
    drop(journal);
    let mut journal = Journal::open(&output, false).unwrap();
    journal.begin(&larger, &input(&[1, 2, 3]), true).unwrap();
    put(&mut journal, 2, true);
    drop(journal);
    let mut journal = Journal::open(&output, false).unwrap();
    journal.resume(&larger, &input(&[1, 2, 3]), false).unwrap();
    assert_eq!((journal.len(), journal.totals().failed, journal.damage()), (2, 0, (0, 0)));
}

#[test]
fn records_of_other_shards_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let first = Identity { shard: Shard::parse("1/2", |_| None).ok(), ..run() };
    let mut journal = Journal::open(&output, false).unwrap();
    journal.begin(&first, &input(&[1, 2, 3, 4, 5, 6]), false).unwrap();
    for number in [1, 3, 5] {
        put(&mut journal, number, true);
    }
    drop(journal);
    // With a new first record, records 1, 3 and 5 belong to the other shard; without it, they belong to this shard
    // again.
    let counted = |numbers: &[u8]| {
        let mut journal = Journal::open(&output, false).unwrap();
        journal.begin(&first, &input(numbers), false).unwrap();
        (journal.len(), journal.totals().prompt_tokens)
    };
    assert_eq!(counted(&[7, 1, 2, 3, 4, 5, 6]), (0, 0));
    assert_eq!(counted(&[7, 1, 3, 2, 5, 6, 4]), (2, 8));
    assert_eq!(counted(&[1, 2, 3, 4, 5, 6, 7]), (3, 9));
}

#[test]
fn a_journal_of_version_1_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let path = folder.path().join("out.jsonl.journal");
    let old = "{\"tulu_quant_journal\":1,\"input\":{}}\n00\tok\t1 2\t{}\n";
    fs::write(&path, old).unwrap();
    let refused = Journal::open(&output, false).unwrap_err();
    assert!(refused.code == Code::Journal && refused.what.contains("version 1") && refused.what.contains("version 2"));
    assert_eq!(fs::read_to_string(&path).unwrap(), old);
    let mut journal = Journal::open(&output, true).unwrap();
    journal.begin(&run(), &input(&[1]), false).unwrap();
    assert!(!fs::read_to_string(&path).unwrap().contains("journal\":1,"), "given up on demand");
}

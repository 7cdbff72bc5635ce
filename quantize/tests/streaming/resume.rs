//! Streaming conversion resumes after every kind of interruption, and restarts where it cannot.

use super::{AROUND, Case, Notes, outputs, stopped};
use crate::support::options;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tulu_quantize::{Checkpoint, Code, ConvertOptions, Observer, Plan, QuantizeOptions, Silent, convert_streaming};

#[test]
fn resumes_after_a_dropped_connection_at_any_request() {
    let case = Case::safetensors();
    let mut died = 0;
    // fail after every possible number of requests
    for requests in (0..).step_by(3) {
        case.server.fail_after.store(requests, Ordering::SeqCst);
        match case.run() {
            Ok(_) => break,
            Err(err) => {
                assert_eq!((err.code, err.what.as_str()), (Code::Fetch, "the line is dead"), "{err}");
                case.is_not_done();
                died += 1;
            }
        }
        case.server.fail_after.store(usize::MAX, Ordering::SeqCst);
    }
    assert!(died > 3);
    case.is_done();
}

#[test]
fn resume_skips_journaled_segments() {
    for case in [Case::safetensors(), Case::bin()] {
        let (mut runs, mut given) = (0, 0);
        loop {
            runs += 1;
            assert!(runs < 100, "no progress");
            case.server.fail_after_long.store(6, Ordering::SeqCst);
            let done = case.run();
            given += case.given();
            if done.is_ok() {
                break;
            }
        }
        case.is_done();
        assert!(runs >= 3, "{runs} runs");
        // each run downloads again at most the buffer and the headers
        let lost = runs * (case.stream_options().buffer_bytes + AROUND * case.server.files.len() as u64);
        assert!(given <= case.total() + lost, "{given} bytes for {} in {runs} runs", case.total());
    }
}

/// Cancels after this many chunks.
struct StopAfter(AtomicUsize, AtomicBool);

impl Observer for StopAfter {
    fn advanced(&self, _tensor: &str, _bytes: u64) {
        if self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err() {
            self.1.store(true, Ordering::SeqCst);
        }
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

#[test]
fn resumes_after_cancellation() {
    let case = Case::bin();
    let err = case.run_with(options(3), &StopAfter(AtomicUsize::new(20), AtomicBool::new(false))).unwrap_err();
    assert_eq!(err.code, Code::Interrupted);
    let parts = case.parts();
    assert_eq!(case.names().len(), 3, "{:?}", case.names());
    assert!(parts.iter().all(|part| part.exists()) && case.stream_options().journal.exists());
    case.given();
    case.run().unwrap();
    case.is_done();
    assert!(case.given() < case.total(), "something was kept");
}

#[test]
fn truncated_journal_resumes_and_damaged_journal_restarts() {
    let case = stopped();
    let journal = fs::read(case.stream_options().journal).unwrap();
    let parts = case.parts();
    let kept: Vec<_> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
    let lines = journal.iter().filter(|b| **b == b'\n').count();
    assert!(lines >= 3, "{lines} lines");
    let again = |bytes: &[u8]| {
        outputs(&case.out).iter().for_each(|(_, path)| drop(fs::remove_file(path)));
        parts.iter().zip(&kept).for_each(|(part, bytes)| fs::write(part, bytes).unwrap());
        fs::write(case.stream_options().journal, bytes).unwrap();
        let notes = Notes::default();
        case.run_with(options(3), &notes).unwrap();
        case.is_done();
        notes.0.into_inner().unwrap()
    };
    for cut in [0, 1, journal.len() / 3, journal.len() / 2, journal.len() - 20, journal.len() - 1, journal.len()] {
        let notes = again(&journal[..cut]);
        assert!(!notes.iter().any(|note| note.contains("damaged")), "{cut}: {notes:?}");
    }
    for at in [3, 40, journal.len() / 2] {
        let mut damaged = journal.clone();
        damaged[at] ^= 4;
        let notes = again(&damaged);
        assert!(matches!(notes.as_slice(), [note] if note.contains("starting over")), "{at}: {notes:?}");
    }
}

#[test]
fn restarts_if_partial_files_are_missing() {
    let case = stopped();
    fs::remove_file(&case.parts()[1]).unwrap();
    let notes = Notes::default();
    case.run_with(options(3), &notes).unwrap();
    case.is_done();
    assert!(matches!(notes.0.lock().unwrap().as_slice(), [note] if note.contains("starting over")));
}

#[test]
fn other_types_restart_and_remove_the_old_partial_files() {
    let case = stopped();
    let source = Checkpoint::open_with(&case.small, &case.remote).unwrap();
    let one = outputs(&case.out)[..1].to_vec();
    let plan = Plan::new(&source, &one, &QuantizeOptions::default()).unwrap();
    let notes = Notes::default();
    convert_streaming(&source, &plan, &case.remote, options(3), &case.stream_options(), &notes).unwrap();
    assert_eq!(case.names(), ["little-Q4_0.gguf"]);
    assert!(fs::read(&one[0].1).unwrap() == case.wanted[0]);
    assert!(matches!(notes.0.lock().unwrap().as_slice(), [note] if note.contains("other types")));
}

#[test]
fn resume_completes_interrupted_publish() {
    let case = stopped();
    // as after a kill between the renames of two files
    let (mut lines, journal) = (Vec::new(), case.stream_options().journal);
    lines.push(fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned());
    let text = r#"{"publishing":true}"#;
    lines.push(format!("{:08x} {text}", crc32fast::hash(text.as_bytes())));
    fs::write(&journal, lines.join("\n") + "\n").unwrap();
    let paths = outputs(&case.out);
    let parts = case.parts();
    fs::remove_file(&parts[0]).unwrap();
    fs::write(&paths[0].1, &case.wanted[0]).unwrap();
    fs::write(&parts[1], &case.wanted[1]).unwrap();
    case.given();
    case.run().unwrap();
    case.is_done();
    assert!(case.given() <= AROUND * case.server.files.len() as u64);
}

#[test]
fn resume_rejects_an_older_file_of_the_same_name_and_length() {
    let case = stopped();
    let parts = case.parts();
    // as after a kill before the first rename
    let journal = case.stream_options().journal;
    let head = fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned();
    let number = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let paths = outputs(&case.out);
    let files: HashMap<_, _> = paths.iter().zip(&parts).map(|((_, p), part)| (p.to_str(), number(part))).collect();
    let files: String = files.iter().map(|(p, n)| format!("{:?}:{n},", p.unwrap())).collect();
    let text = format!("{{\"publishing\":true,\"files\":{{{}}}}}", files.trim_end_matches(','));
    let entry = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
    fs::write(&journal, format!("{head}\n{entry}")).unwrap();
    // a partial file is missing, and its final name belongs to another file of the same length
    fs::write(&paths[0].1, vec![0; case.wanted[0].len()]).unwrap();
    fs::remove_file(&parts[0]).unwrap();
    fs::write(&parts[1], &case.wanted[1]).unwrap();
    case.run_with(ConvertOptions { replace: true, ..options(3) }, &Silent).unwrap();
    case.is_done();
}

#[test]
fn resumes_with_the_types_in_another_order() {
    let case = stopped();
    let source = Checkpoint::open_with(&case.small, &case.remote).unwrap();
    let mut other = outputs(&case.out);
    other.reverse();
    let plan = Plan::new(&source, &other, &QuantizeOptions::default()).unwrap();
    case.given();
    let notes = Notes::default();
    convert_streaming(&source, &plan, &case.remote, options(3), &case.stream_options(), &notes).unwrap();
    case.is_done();
    assert!(matches!(notes.0.lock().unwrap().as_slice(), [note] if note.contains("resuming at")));
    assert!(case.given() < case.total());
}

//! PyTorch `.bin` checkpoints: valid files are read, and hostile files are refused.

mod hostile_pickle;
mod hostile_zip;
mod reading;

use crate::fixtures;
use crate::support::convert_to;
use std::fs;
use std::time::{Duration, Instant};
use tulu_quantize::{Code, Error, Ftype};

/// Converts the small checkpoint with `bytes` as its weights. If it fails, asserts that no file was left.
pub(super) fn convert_bin(bytes: &[u8]) -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::small(1).write_beside(dir.path());
    fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let started = Instant::now();
    let done = convert_to(dir.path(), &out.join("out.gguf"), Ftype::F32);
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    assert_eq!(fs::read_dir(&out).unwrap().count(), usize::from(done.is_ok()));
    done
}

/// Asserts that `bytes` are refused with `code` and one line that names `place`.
pub(super) fn refused(case: &str, bytes: &[u8], code: Code, place: &str) {
    let err = convert_bin(bytes).expect_err(case);
    assert_eq!(err.code, code, "{case}: {err}");
    assert!(err.to_string().contains(place), "{case}: {err} has no '{place}'");
    assert!(!err.to_string().contains('\n'), "{case}: {err}");
}

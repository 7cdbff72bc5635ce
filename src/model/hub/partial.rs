//! A partially downloaded blob: `blobs/HASH.tulu-quant.part` with the bytes at their final offsets, and
//! `….tulu-quant.done` with a line `START END CRC32` for each complete range.
//!
//! The name `HASH.incomplete` of `huggingface_hub` is not used, because `huggingface_hub` takes the length of that file
//! for the number of downloaded bytes. A line is appended after its bytes are written, so a kill loses only ranges
//! without a line. Each range is compared with its CRC-32 before it is reused, because a power failure may keep the
//! line and lose the bytes.

use crate::atomic_file::{self, Mode, folder_of};
use crate::error::{Code, Failure};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tulu_quantize::platform;

/// Bytes per read when ranges on disk are checked.
const BUFFER: usize = 1 << 20;

/// Upper limit of [`Partial::step`].
const MAX_STEP: u64 = 8 << 20;

/// Lower limit of [`Partial::step`].
const MIN_STEP: u64 = 64 << 10;

/// A file that is being downloaded.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    size: u64,
    log: Mutex<RangeLog>,
}

#[derive(Debug)]
struct RangeLog {
    path: PathBuf,
    file: File,
    /// The complete ranges, sorted, without overlaps.
    done: Vec<Range<u64>>,
}

/// Returns the paths `HASH.tulu-quant.part` and `HASH.tulu-quant.done`.
fn names(blob: &Path) -> [PathBuf; 2] {
    ["part", "done"].map(|end| {
        let mut name = blob.as_os_str().to_owned();
        name.push(format!(".tulu-quant.{end}"));
        name.into()
    })
}

/// Returns the bytes on disk that an interrupted download of `blob` uses.
pub(super) fn allocated(blob: &Path) -> u64 {
    let [part, _] = names(blob);
    fs::symlink_metadata(part).map_or(0, |found| platform::allocated(&found))
}

/// Opens or creates a file of this program. In a cache that others can write to, its name may be a symlink to another
/// file; the symlink is removed, not followed.
fn open_own(path: &Path) -> std::io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() || platform::links(&found) > 1 => fs::remove_file(path)?,
        Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    platform::deny_links(&mut options).open(path)
}

impl Partial {
    /// Opens the partial file of `blob`, or creates it. Checks the ranges that an earlier process wrote.
    ///
    /// # Errors
    /// `DISK_FULL`, `HUB_CACHE`, and the error of `check_cancelled`, which is called between the ranges.
    pub(super) fn open(
        blob: &Path,
        size: u64,
        check_cancelled: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let [path, log_path] = names(blob);
        let open = |path: &Path| open_own(path).map_err(|err| cannot(path, "cannot create the file", &err));
        let (file, mut log) = (open(&path)?, open(&log_path)?);
        let io = |err: std::io::Error| cannot(&path, "cannot read the file", &err);
        let length = file.metadata().map_err(io)?.len();
        let mut recorded = Vec::new();
        log.read_to_end(&mut recorded).map_err(|err| cannot(&log_path, "cannot read the file", &err))?;
        let recorded = String::from_utf8_lossy(&recorded);
        let mut done: Vec<(Range<u64>, u32)> = if length == size { lines(&recorded, size) } else { Vec::new() };
        let mut buffer = vec![0; BUFFER];
        let mut wrong = None;
        done.retain(|(range, crc)| {
            let kept = wrong
                .is_none()
                .then(|| check_cancelled().and_then(|()| crc32_of(&file, range, &mut buffer).map_err(io)));
            match kept {
                Some(Ok(found)) => found == *crc,
                Some(Err(failure)) => {
                    wrong = Some(failure);
                    true
                }
                None => true,
            }
        });
        if let Some(failure) = wrong {
            return Err(failure);
        }
        file.set_len(size).map_err(|err| cannot(&path, "cannot extend the file", &err))?;
        let this = Self { path, file, size, log: Mutex::new(RangeLog { path: log_path, file: log, done: Vec::new() }) };
        this.rewrite(&done)?;
        Ok(this)
    }

    /// Returns the bytes after which progress is recorded: a 64th of the file, within limits.
    pub(super) fn step(&self) -> u64 {
        (self.size / 64).clamp(MIN_STEP, MAX_STEP)
    }

    /// Returns the bytes in complete ranges.
    pub(super) fn completed(&self) -> u64 {
        self.log().done.iter().map(|range| range.end - range.start).sum()
    }

    /// Returns the parts of `range` that are not complete.
    pub(super) fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (Vec::new(), range.start);
        for done in &self.log().done {
            if done.start >= range.end {
                break;
            }
            if done.start > at {
                gaps.push(at..done.start);
            }
            at = at.max(done.end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Writes bytes at their final offset.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        platform::write_all_at(&self.file, bytes, at).map_err(|err| cannot(&self.path, "cannot write", &err))
    }

    /// Records that `range` is written; `crc` is the CRC-32 of its bytes.
    pub(super) fn record(&self, range: Range<u64>, crc: u32) -> Result<(), Failure> {
        let mut log = self.log();
        let line = format!("{} {} {crc:08x}\n", range.start, range.end);
        log.file.write_all(line.as_bytes()).map_err(|err| cannot(&log.path, "cannot write", &err))?;
        insert(&mut log.done, range);
        Ok(())
    }

    /// Reads the whole file and passes its bytes to `take`, in order.
    pub(super) fn read(&self, take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let (mut buffer, mut at) = (vec![0; BUFFER], 0);
        while at < self.size {
            let len = usize::try_from(self.size - at).unwrap_or(BUFFER).min(BUFFER);
            let part = buffer.get_mut(..len).unwrap_or_default();
            platform::read_exact_at(&self.file, part, at).map_err(|err| cannot(&self.path, "cannot read", &err))?;
            take(part)?;
            at += len as u64;
        }
        Ok(())
    }

    /// Forgets all complete ranges.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        self.rewrite(&[])
    }

    /// Flushes the file and renames it to `blob`.
    pub(super) fn finish(&self, blob: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|err| cannot(&self.path, "cannot flush", &err))?;
        fs::rename(&self.path, blob).map_err(|err| cannot(blob, "cannot rename the file", &err))?;
        let _ = platform::sync_folder(&folder_of(blob));
        let _ = fs::remove_file(&self.log().path);
        Ok(())
    }

    fn log(&self) -> std::sync::MutexGuard<'_, RangeLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rewrites the range log, so that no torn line remains.
    fn rewrite(&self, done: &[(Range<u64>, u32)]) -> Result<(), Failure> {
        let mut log = self.log();
        log.done.clear();
        let text: String =
            done.iter().map(|(range, crc)| format!("{} {} {crc:08x}\n", range.start, range.end)).collect();
        let path = log.path.clone();
        let io = |err: std::io::Error| cannot(&path, "cannot write", &err);
        atomic_file::write(&path, text.as_bytes(), Mode::Umask)?;
        log.file = platform::deny_links(File::options().append(true)).open(&path).map_err(io)?;
        done.iter().for_each(|(range, _)| insert(&mut log.done, range.clone()));
        Ok(())
    }
}

/// Parses the complete and valid lines; the last line may be torn.
fn lines(text: &str, size: u64) -> Vec<(Range<u64>, u32)> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| {
        let mut parts = line.split(' ');
        let range = parts.next()?.parse().ok()?..parts.next()?.parse().ok()?;
        let crc = u32::from_str_radix(parts.next()?, 16).ok()?;
        (range.start < range.end && range.end <= size).then_some((range, crc))
    };
    whole.lines().filter_map(parse).collect()
}

/// Returns the CRC-32 of a range of the file.
fn crc32_of(file: &File, range: &Range<u64>, buffer: &mut [u8]) -> std::io::Result<u32> {
    let mut hash = crc32fast::Hasher::new();
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end - at).unwrap_or(BUFFER).min(buffer.len());
        let part = buffer.get_mut(..len).unwrap_or_default();
        platform::read_exact_at(file, part, at)?;
        hash.update(part);
        at += len as u64;
    }
    Ok(hash.finalize())
}

/// Adds `range` and joins adjacent ranges.
fn insert(done: &mut Vec<Range<u64>>, range: Range<u64>) {
    done.push(range);
    done.sort_by_key(|range| range.start);
    done.dedup_by(|next, before| {
        let joins = next.start <= before.end;
        if joins {
            before.end = before.end.max(next.end);
        }
        joins
    });
}

/// Creates the error of a file operation. A full disk has a code of its own; the partial file is kept.
fn cannot(path: &Path, doing: &str, err: &std::io::Error) -> Failure {
    if matches!(err.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        let fix = "free disk space, or set HF_HUB_CACHE to a folder on another disk; then run it again to resume";
        return Failure::machine(Code::DiskFull, format!("{doing}: {err}"), fix).at(path);
    }
    Failure::machine(Code::HubCache, format!("{doing}: {err}"), "check the folder's permissions, or set HF_HUB_CACHE")
        .at(path)
}

#[cfg(test)]
mod tests {
    use super::{Partial, names};
    use std::io::Write as _;

    #[test]
    fn reopening_keeps_only_ranges_with_the_right_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let blob = dir.path().join("ab");
        let partial = Partial::open(&blob, 100, &|| Ok(())).unwrap();
        for (at, byte) in [(0, 1_u8), (20, 2), (50, 3)] {
            partial.write(at, &[byte; 10]).unwrap();
            partial.record(at..at + 10, crc32fast::hash(&[byte; 10])).unwrap();
        }
        partial.write(10, &[9; 10]).unwrap();
        partial.record(10..20, crc32fast::hash(&[9; 10])).unwrap();
        assert_eq!(partial.gaps(&(0..100)), [30..50, 60..100]);
        assert_eq!(partial.gaps(&(25..55)), std::slice::from_ref(&(30..50)));
        assert_eq!(partial.gaps(&(0..40)), std::slice::from_ref(&(30..40)));
        drop(partial);
        // a torn line, and lost bytes
        let [part, done] = names(&blob);
        std::fs::File::options().append(true).open(&done).unwrap().write_all(b"60 100 1234").unwrap();
        let bytes = std::fs::read(&part).unwrap();
        std::fs::write(&part, [&bytes[..55], &[7], &bytes[56..]].concat()).unwrap();
        let partial = Partial::open(&blob, 100, &|| Ok(())).unwrap();
        assert_eq!(partial.gaps(&(0..100)), std::slice::from_ref(&(30..100)));
        assert_eq!(partial.completed(), 30);
        // another size: nothing is reused
        drop(partial);
        assert_eq!(Partial::open(&blob, 101, &|| Ok(())).unwrap().completed(), 0);
    }

    #[test]
    fn links_are_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let blob = dir.path().join("ab");
        let other = dir.path().join("other");
        for end in [0, 1] {
            for kind in ["link", "hard link", "dangling link"] {
                std::fs::write(&other, "precious").unwrap();
                let name = &names(&blob)[end];
                match kind {
                    "link" => std::os::unix::fs::symlink(&other, name).unwrap(),
                    "hard link" => std::fs::hard_link(&other, name).unwrap(),
                    _ => std::os::unix::fs::symlink(dir.path().join("none"), name).unwrap(),
                }
                let partial = Partial::open(&blob, 100, &|| Ok(())).unwrap();
                partial.write(0, &[1; 100]).unwrap();
                partial.record(0..100, crc32fast::hash(&[1; 100])).unwrap();
                partial.finish(&blob).unwrap();
                assert!(blob.symlink_metadata().unwrap().is_file(), "{kind}");
                assert_eq!(std::fs::read(&blob).unwrap(), [1; 100]);
                assert_eq!(std::fs::read(&other).unwrap(), b"precious", "{kind}");
                assert!(!dir.path().join("none").exists());
                std::fs::remove_file(&blob).unwrap();
            }
        }
    }
}

//! Keeps the scores of finished groups of chunks in a file, so that a run that is killed goes on. The file begins with a
//! line that says what the scores depend on; each record has a checksum, and a torn last record is dropped.

use super::token_score::TokenScore;
use crate::error::{Code, Failure};
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of a score: three f32 and a flag.
const SCORE: usize = 13;
/// Bytes of a record's head: subject, group and number of scores.
const HEAD: usize = 12;
/// Bytes of a record's checksum.
const SUM: usize = 4;

/// The scores of a run: for each subject, those of the finished groups in order.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    scores: Vec<Vec<Vec<TokenScore>>>,
}

impl Journal {
    /// Opens the journal at `path` for `n_subjects`, or creates it. Scores of a journal with another `identity` are
    /// dropped.
    ///
    /// # Errors
    /// `IO`; `OUTPUT_LOCKED` when another process runs the same evaluation.
    pub(crate) fn open(path: &Path, identity: &str, n_subjects: usize) -> Result<Self, Failure> {
        let io = |err: std::io::Error| Failure::io(path, "cannot keep the results of the evaluation", &err);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = "another process runs the same evaluation";
            return Err(Failure::input(Code::OutputLocked, what, "wait for it").at(path));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let head = format!("{identity}\n");
        let mut scores = vec![Vec::new(); n_subjects];
        let kept = match bytes.strip_prefix(head.as_bytes()) {
            Some(records) => head.len() + take_records(records, &mut scores),
            None => 0,
        };
        file.set_len(kept as u64).and_then(|()| file.seek(SeekFrom::Start(kept as u64))).map_err(io)?;
        if kept == 0 {
            file.write_all(head.as_bytes()).map_err(io)?;
        }
        Ok(Self { file, path: path.to_owned(), scores })
    }

    /// Returns the number of groups that `subject` has finished.
    pub(crate) fn finished(&self, subject: usize) -> usize {
        self.scores.get(subject).map_or(0, Vec::len)
    }

    /// Returns the scores of `subject` in the order of the tokens.
    pub(crate) fn scores(&self, subject: usize) -> Vec<TokenScore> {
        self.scores.get(subject).map(|groups| groups.concat()).unwrap_or_default()
    }

    /// Adds the next group of several subjects in one write, so that a kill keeps all of them or none.
    pub(crate) fn add(&mut self, records: Vec<(usize, Vec<TokenScore>)>) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for (subject, scores) in records {
            let Some(groups) = self.scores.get_mut(subject) else { continue };
            encode(subject, groups.len(), &scores, &mut bytes);
            groups.push(scores);
        }
        let io = |err: std::io::Error| Failure::io(&self.path, "cannot keep the results of the evaluation", &err);
        self.file.write_all(&bytes).map_err(io)
    }

    /// Deletes the file: the results were printed.
    pub(crate) fn delete(self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn encode(subject: usize, group: usize, scores: &[TokenScore], out: &mut Vec<u8>) {
    let begin = out.len();
    for n in [subject, group, scores.len()] {
        out.extend(u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
    }
    for score in scores {
        out.extend([score.nll, score.kl, score.p_diff].iter().flat_map(|x| x.to_le_bytes()));
        out.push(score.same_top.into());
    }
    let sum = crc32fast::hash(&out[begin..]);
    out.extend(sum.to_le_bytes());
}

/// Takes whole records until the first that is damaged, incomplete or out of order. Returns their bytes.
fn take_records(mut bytes: &[u8], scores: &mut [Vec<Vec<TokenScore>>]) -> usize {
    let all = bytes.len();
    while let Some((subject, group, found, rest)) = take_record(bytes) {
        let Some(groups) = scores.get_mut(subject).filter(|groups| groups.len() == group) else { break };
        groups.push(found);
        bytes = rest;
    }
    all - bytes.len()
}

fn take_record(bytes: &[u8]) -> Option<(usize, usize, Vec<TokenScore>, &[u8])> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let (subject, group, n) = (number(0)?, number(4)?, number(8)?);
    let end = HEAD.checked_add(n.checked_mul(SCORE)?)?;
    let sum = number(end)?;
    let body = bytes.get(..end)?;
    if crc32fast::hash(body) as usize != sum {
        return None;
    }
    let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let score = |b: &[u8]| TokenScore {
        nll: float(&b[..4]),
        kl: float(&b[4..8]),
        p_diff: float(&b[8..12]),
        same_top: b[12] != 0,
    };
    Some((subject, group, body[HEAD..].chunks_exact(SCORE).map(score).collect(), &bytes[end + SUM..]))
}

#[cfg(test)]
mod tests {
    use super::Journal;
    use crate::eval::token_score::TokenScore;

    #[test]
    fn a_torn_or_damaged_record_is_dropped_and_another_identity_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/scores");
        let scores = |n: u16| vec![TokenScore { nll: n.into(), kl: 0.5, p_diff: -0.25, same_top: true }; 3];
        let mut journal = Journal::open(&path, "one", 2).unwrap();
        journal.add(vec![(0, scores(1)), (1, scores(2))]).unwrap();
        journal.add(vec![(0, scores(3))]).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for len in 4..=whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let journal = Journal::open(&path, "one", 2).unwrap();
            let record = 12 + 3 * 13 + 4;
            let kept = (len - 4) / record;
            assert_eq!(journal.finished(0) + journal.finished(1), kept, "{len}");
            if kept == 3 {
                assert_eq!(journal.scores(0), [scores(1), scores(3)].concat());
            }
        }
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(Journal::open(&path, "one", 2).unwrap().finished(0), 0);
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(Journal::open(&path, "two", 2).unwrap().finished(0), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
    }
}

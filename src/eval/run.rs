//! Computes the scores of several models on the same chunks in one pass: all subjects, and the base unless its
//! distributions are in a file, compute a group of chunks, then the distributions of every scored token are compared.
//! Nothing larger than one group is in memory.

use super::base_file::{BaseFile, Block, Encoding, OutputMatrix, RowFacts, compare as compare_stored};
use super::journal::Journal;
use super::token_score::{Distribution, TokenScore};
use crate::corpus::Chunk;
use crate::engine::{ScoringContext, Sequence, scored_together};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model::stopped;
use crate::progress::Bar;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A model that is evaluated.
#[derive(Debug)]
pub(crate) struct Subject<'m> {
    /// Its index in the journal.
    pub(crate) index: usize,
    /// Its file, for errors.
    pub(crate) path: PathBuf,
    /// Its context.
    pub(crate) context: ScoringContext<'m>,
    /// Time of its computations so far.
    pub(crate) time: Duration,
    /// Tokens computed so far.
    pub(crate) n_tokens: usize,
}

/// Where the base's distributions come from.
pub(crate) enum Base<'a, 'm> {
    /// There is no base.
    None,
    /// They are computed.
    Live(&'a mut Subject<'m>),
    /// They are in a file.
    Stored { file: &'a mut BaseFile, matrix: &'a OutputMatrix, encoding: Encoding },
}

/// What a pass needs.
pub(crate) struct Pass<'a> {
    /// The label of the progress bar.
    pub(crate) label: &'a str,
    /// The text.
    pub(crate) chunks: &'a [Chunk],
    /// Tokens of the longest chunk.
    pub(crate) n_ctx: usize,
    /// Threads that compare logits.
    pub(crate) n_threads: usize,
    /// The request to stop.
    pub(crate) interrupt: &'a Interrupt,
}

/// Scores `subjects` on all chunks, compared with `base`, from the first group on that the journal lacks.
///
/// # Errors
/// `INTERRUPTED`; the journal keeps finished groups. `NAN` when a model computes NaN.
pub(crate) fn pass<'m>(
    pass: &Pass<'_>,
    base: &mut Base<'_, 'm>,
    subjects: &mut [Subject<'m>],
    journal: &mut Journal,
) -> Result<(), Failure> {
    let together = group_len(pass.n_ctx);
    let groups: Vec<&[Chunk]> = pass.chunks.chunks(together).collect();
    let live = if let Base::Live(base) = base { Some(base.index) } else { None };
    let done = live
        .into_iter()
        .chain(subjects.iter().map(|subject| subject.index))
        .map(|index| journal.finished(index))
        .min()
        .unwrap_or(0);
    let bar = Bar::items(pass.label, "chunks", pass.chunks.len() as u64);
    bar.begin_at((done * together).min(pass.chunks.len()) as u64);
    for (group, chunks) in groups.iter().enumerate().skip(done) {
        let first = group * together;
        let mut blocks = Vec::new();
        match base {
            Base::None => {}
            Base::Live(base) => compute(base, chunks, pass.interrupt)?,
            Base::Stored { file, matrix, encoding } => {
                for chunk in first..first + chunks.len() {
                    let block = Block::decode(&file.read(chunk)?, matrix, *encoding, pass.n_threads);
                    blocks.push(block.ok_or_else(|| file.damaged(chunk))?);
                }
            }
        }
        for subject in subjects.iter_mut() {
            compute(subject, chunks, pass.interrupt)?;
        }
        let live = if let Base::Live(base) = base { Some(&**base) } else { None };
        let scores = compare(pass, chunks, first, live, &blocks, subjects)?;
        let missing = scores.into_iter().filter(|(index, _)| journal.finished(*index) == group);
        let missing: Vec<_> = missing.collect();
        journal.add(missing)?;
        bar.set((first + chunks.len()) as u64);
    }
    Ok(())
}

/// Returns the number of chunks that are computed together.
pub(crate) fn group_len(n_ctx: usize) -> usize {
    scored_together(n_ctx)
}

/// Returns the scores of the base on a group, from its file.
pub(crate) fn stored_scores(
    file: &mut BaseFile,
    group: usize,
    n_ctx: usize,
    chunks: &[Chunk],
) -> Result<Vec<TokenScore>, Failure> {
    let first = group * group_len(n_ctx);
    let mut scores = Vec::new();
    for (chunk, known) in chunks.iter().enumerate().skip(first).take(group_len(n_ctx)) {
        let facts = Block::decode_facts(&file.read(chunk)?).filter(|facts| facts.len() == known.scored.len());
        let facts = facts.ok_or_else(|| file.damaged(chunk))?;
        scores.extend(facts.iter().map(|facts| TokenScore { nll: facts.nll, ..TokenScore::default() }));
    }
    Ok(scores)
}

/// Computes a group of chunks with one model.
fn compute(subject: &mut Subject<'_>, chunks: &[Chunk], interrupt: &Interrupt) -> Result<(), Failure> {
    let needed: Vec<Vec<bool>> = chunks.iter().map(Chunk::needed_logits).collect();
    let sequences: Vec<Sequence<'_>> =
        chunks.iter().zip(&needed).map(|(chunk, logits)| Sequence { tokens: &chunk.tokens, logits }).collect();
    let begun = Instant::now();
    let whole = subject.context.compute(&sequences).map_err(|failure| failure.at(&subject.path))?;
    if let (false, exit) | (true, exit @ Some(_)) = (whole, interrupt.asked()) {
        return Err(exit.map_or_else(Failure::interrupted, stopped));
    }
    subject.time += begun.elapsed();
    subject.n_tokens += chunks.iter().map(|chunk| chunk.tokens.len()).sum::<usize>();
    Ok(())
}

/// The logits of one scored token.
struct Row<'a> {
    token: usize,
    /// Index of the chunk, for errors.
    chunk: usize,
    base: RowBase<'a>,
    subjects: Vec<&'a [f32]>,
}

/// The base's distribution of one token.
enum RowBase<'a> {
    None,
    Live(&'a [f32]),
    Stored(&'a [f32], &'a RowFacts),
}

/// Compares the logits of all scored tokens of a group. Returns the scores of each model with its index.
fn compare(
    pass: &Pass<'_>,
    chunks: &[Chunk],
    first: usize,
    base: Option<&Subject<'_>>,
    blocks: &[Block],
    subjects: &[Subject<'_>],
) -> Result<Vec<(usize, Vec<TokenScore>)>, Failure> {
    let mut rows = Vec::new();
    for (seq, chunk) in chunks.iter().enumerate() {
        for (i, at) in chunk.scored.iter().enumerate() {
            let stored = blocks.get(seq).and_then(|block| block.row(i));
            rows.push(Row {
                token: usize::try_from(chunk.tokens[*at].0).unwrap_or(usize::MAX),
                chunk: first + seq,
                base: match (base, stored) {
                    (Some(base), _) => RowBase::Live(base.context.logits(seq, at - 1)?),
                    (None, Some((logits, facts))) => RowBase::Stored(logits, facts),
                    (None, None) => RowBase::None,
                },
                subjects: subjects
                    .iter()
                    .map(|subject| subject.context.logits(seq, at - 1))
                    .collect::<Result<_, _>>()?,
            });
        }
    }
    let part = rows.len().div_ceil(pass.n_threads.max(1)).max(1);
    let scored: Vec<Scored> = std::thread::scope(|scope| {
        let workers: Vec<_> = rows.chunks(part).map(|rows| scope.spawn(move || score(rows))).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let mut all = Vec::with_capacity(rows.len());
    let models: Vec<&Subject<'_>> = base.into_iter().chain(subjects).collect();
    for part in scored {
        all.extend(part.map_err(|(model, chunk)| not_finite(models.get(model).copied(), chunk))?);
    }
    let of = |model: usize| all.iter().map(|row: &Vec<TokenScore>| row[model]).collect();
    Ok(models.iter().enumerate().map(|(model, subject)| (subject.index, of(model))).collect())
}

/// The scores of each row, for each model; or model and chunk of logits that are not finite.
type Scored = Result<Vec<Vec<TokenScore>>, (usize, usize)>;

/// Scores rows: for each the base first, if there is one, then the subjects.
fn score(rows: &[Row<'_>]) -> Scored {
    let mut probabilities = Vec::new();
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let own = |logits: &Distribution<'_>| TokenScore { nll: logits.nll(row.token) as f32, ..TokenScore::default() };
        let mut scores = Vec::with_capacity(row.subjects.len() + 1);
        let base = match row.base {
            RowBase::None => None,
            RowBase::Live(logits) | RowBase::Stored(logits, _) => {
                let normalised = Distribution::new(logits).ok_or((0, row.chunk))?;
                normalised.probabilities(&mut probabilities);
                Some(normalised)
            }
        };
        if let (RowBase::Live(_), Some(base)) = (&row.base, &base) {
            scores.push(own(base));
        }
        for logits in &row.subjects {
            let subject = Distribution::new(logits).ok_or((scores.len(), row.chunk))?;
            scores.push(match (&row.base, &base) {
                (RowBase::Stored(_, facts), Some(base)) => {
                    compare_stored(&subject, base, &probabilities, facts, row.token)
                }
                (_, Some(base)) => subject.compare(base, &probabilities, row.token),
                (_, None) => own(&subject),
            });
        }
        all.push(scores);
    }
    Ok(all)
}

fn not_finite(subject: Option<&Subject<'_>>, chunk: usize) -> Failure {
    let what = format!("the model computes NaN or infinity in chunk {}", chunk + 1);
    let failure = Failure::input(Code::Nan, what, "`tulu-quant verify` finds the tensor; convert the file again");
    match subject {
        Some(subject) => failure.at(&subject.path),
        None => failure,
    }
}

//! Evaluates candidates on a text: from the plan of memory to the report. Shared by `eval` and `convert --eval`.

use super::candidates::Candidate;
use super::compute::{self, Way};
use super::entries;
use super::setup::Setup;
use crate::corpus::{self, Chunk, Corpus, Purpose};
use crate::engine::{Bos, VocabFile};
use crate::error::Failure;
use crate::eval::{self, BaseFile, Encoding, Journal, Report};
use crate::interrupt::Interrupt;
use crate::model::app_dirs;
use crate::prompt::Prompts;
use crate::stderr;
use crate::table;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use tulu_quantize::hex;

/// What is evaluated, and how.
pub(in super::super) struct Job<'a> {
    /// The text.
    pub(in super::super) corpus: &'a Corpus,
    /// Tokens of a chunk.
    pub(in super::super) n_ctx: usize,
    /// Largest number of chunks.
    pub(in super::super) n_max: Option<usize>,
    /// The file for the base's distributions that the user named.
    pub(in super::super) base_file: Option<&'a Path>,
    /// How distributions of the base are stored.
    pub(in super::super) encoding: Encoding,
    /// Whether speeds are measured.
    pub(in super::super) with_speed: bool,
    /// A folder for files that are deleted at the end.
    pub(in super::super) folder: Option<&'a Path>,
    /// The request to stop.
    pub(in super::super) interrupt: &'a Interrupt,
}

/// The results.
pub(in super::super) struct Evaluated {
    /// The numbers.
    pub(in super::super) report: Report,
    chunks: Vec<Chunk>,
    journal: Journal,
    way: Way,
    base: Option<BaseFile>,
}

impl Evaluated {
    /// Deletes what was kept for the case that the run is stopped. Called when the results are printed.
    pub(in super::super) fn finish(self) -> Result<(), Failure> {
        compute::clean(&self.way, self.base)?;
        self.journal.delete();
        Ok(())
    }

    /// Makes the page.
    pub(super) fn page(&self, candidates: &[Candidate]) -> Result<String, Failure> {
        let base = candidates.iter().position(|one| one.is_base);
        let (Some(first), Some(base)) = (candidates.first(), base) else {
            return Ok(eval::page(&self.report, &[]));
        };
        let file = VocabFile::open(&first.path, Bos::Auto)?;
        let base = self.journal.scores(base);
        let shown = candidates.iter().enumerate().filter(|(_, one)| !one.is_base && one.swap.is_none());
        let details =
            shown.map(|(i, _)| (i, eval::details(&self.chunks, &self.journal.scores(i), &base, &file.vocab())));
        Ok(eval::page(&self.report, &details.collect::<Vec<_>>()))
    }
}

/// Evaluates `candidates`. Those with a swap come last.
pub(super) fn evaluate(job: &Job<'_>, candidates: &[Candidate]) -> Result<Evaluated, Failure> {
    let chunks = chunks(job, candidates)?;
    let setup = Setup {
        candidates,
        corpus: job.corpus,
        chunks: &chunks,
        n_ctx: job.n_ctx,
        n_threads: std::thread::available_parallelism().map_or(1, usize::from),
        folder: job.folder,
        interrupt: job.interrupt,
    };
    let (way, memory) = compute::plan(&setup, job.base_file, job.encoding)?;
    announce(&setup, &way, memory);
    let identity = setup.identity()?.to_string();
    let name = format!("{}.scores", hex(&Sha256::digest(&identity)[..8]));
    let mut journal = Journal::open(&app_dirs::cache_dir()?.join("eval").join(name), &identity, candidates.len())?;
    let (models, base) = match &way {
        Way::Together => (compute::together(&setup, &mut journal)?, None),
        Way::OneByOne { file, .. } => (Vec::new(), compute::one_by_one(&setup, file, job.encoding, &mut journal)?),
    };
    let mut entries = entries::entries(&setup, &journal);
    if job.with_speed {
        entries::measure(&mut entries, &setup, &models)?;
    }
    let mut report = Report::new(job.corpus, job.n_ctx, &chunks, entries);
    report.groups = entries::group_entries(&setup, &journal);
    Ok(Evaluated { report, chunks, journal, way, base })
}

/// Cuts the text with the vocabulary of the first model.
fn chunks(job: &Job<'_>, candidates: &[Candidate]) -> Result<Vec<Chunk>, Failure> {
    let Some(first) = candidates.first() else { return Ok(Vec::new()) };
    let file = VocabFile::open(&first.path, Bos::Auto)?;
    let template = if job.corpus.is_conversations() { file.chat_template() } else { None };
    let prompts = Prompts::new(file.vocab(), template.as_deref()).map_err(|failure| failure.at(&first.path))?;
    corpus::chunks(job.corpus, Purpose::Score, &prompts, &file.vocab(), job.n_ctx, job.n_max)
}

/// Says what is going to be done.
fn announce(setup: &Setup<'_>, way: &Way, memory: u64) {
    let swaps = setup.candidates.iter().filter(|one| one.swap.is_some()).count();
    let groups = match swaps {
        0 => String::new(),
        _ => format!(" and {} of tensors swapped alone", table::count(swaps, "group", "groups")),
    };
    stderr::line(&format!(
        "Evaluating {}{groups} on {} of {} tokens of {}, {}, with about {} of memory",
        table::count(setup.candidates.len() - swaps, "model", "models"),
        table::count(setup.chunks.len(), "chunk", "chunks"),
        setup.n_ctx,
        setup.corpus.name,
        if *way == Way::Together { "side by side" } else { "one after the other" },
        table::bytes(memory),
    ));
}

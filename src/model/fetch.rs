//! From a listing on the Hub to GGUF files: the checkpoint comes into the shared cache, and is converted from there.

use super::hub::{Hub, Listing};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::progress::Watch;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use tulu_quantize::{Checkpoint, Ftype, Options, Plan, Recipe, Report, convert};

/// What to fetch, and what to make of it.
pub(crate) struct Job<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) listing: &'a Listing,
    /// Each type, and the file it goes to.
    pub(crate) outputs: &'a [(Ftype, PathBuf)],
    pub(crate) recipe: &'a Recipe,
    pub(crate) options: Options,
    pub(crate) connections: NonZeroUsize,
    pub(crate) interrupt: &'a Interrupt,
}

/// Fetches and converts. What had arrived is not fetched again after an interruption.
pub(crate) fn fetch_and_convert(job: &Job<'_>) -> Result<Report, Failure> {
    let folder = job.hub.pull(job.listing, &job.listing.needed()?.all(), job.connections)?;
    from_folder(&folder, job.outputs, job.recipe, job.options, job.interrupt)
}

/// Converts a checkpoint that is here, with a bar.
pub(crate) fn from_folder(
    folder: &Path,
    outputs: &[(Ftype, PathBuf)],
    recipe: &Recipe,
    options: Options,
    interrupt: &Interrupt,
) -> Result<Report, Failure> {
    let source = Checkpoint::open(folder)?;
    let plan = Plan::new(&source, outputs, recipe)?;
    source.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let watch = Watch::new("converting", plan.source_bytes, interrupt);
    let converted = convert(&source, &plan, options, &watch);
    watch.clear();
    converted.map_err(|err| {
        // the request to stop came as a signal, which decides between 130 and 143
        let failure = Failure::from(err);
        Failure { exit: interrupt.asked().unwrap_or(failure.exit), ..failure }
    })
}

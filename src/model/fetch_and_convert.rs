//! Downloads a repository and converts it, with a progress bar.

use super::FetchOptions;
use super::hub::{Hub, Listing};
use super::streaming::{self, CheckpointSource};
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::stderr;
use crate::watch::Watch;
use std::path::{Path, PathBuf};
use tulu_quantize::{ConvertOptions, Ftype, Plan, QuantizeOptions, Report};

/// A repository to download, and the outputs to convert it to.
pub(crate) struct FetchJob<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) listing: &'a Listing,
    /// Each type, and its output file.
    pub(crate) outputs: &'a [(Ftype, PathBuf)],
    pub(crate) recipe: &'a QuantizeOptions,
    pub(crate) options: ConvertOptions,
    pub(crate) fetch: &'a FetchOptions,
    pub(crate) interrupt: &'a Interrupt,
}

/// Downloads and converts; resumes after an interruption.
pub(crate) fn fetch_and_convert(job: &FetchJob<'_>) -> Result<Report, Failure> {
    let source = CheckpointSource::listed(job.hub, job.listing.clone(), job.fetch)?;
    let plan = Plan::new(source.checkpoint(), job.outputs, job.recipe)?;
    let refusals = crate::prompt::check_template(source.checkpoint())?;
    source.checkpoint().notes.iter().chain(&refusals).for_each(|note| stderr::note(note));
    let first = job.outputs.first().map_or(Path::new(""), |(_, path)| path);
    // each type has its own file in the cache, hence its own journal
    let journal = streaming::journal(&first.file_stem().unwrap_or_default().to_string_lossy(), first);
    let watch = Watch::new("converting", plan.source_bytes, job.interrupt);
    let converted = source.convert(&plan, job.options, &journal, &watch);
    watch.clear();
    // which signal was received decides between exit codes 130 and 143
    converted.map_err(|failure| match job.interrupt.asked() {
        Some(exit) if failure.code == Code::Interrupted => super::stopped::stopped(exit),
        Some(exit) => Failure { exit, ..failure },
        None => failure,
    })
}

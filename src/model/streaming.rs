//! Opens a checkpoint and converts it: from a folder, a GGUF file, the Hugging Face cache, or the Hub. From the Hub,
//! the weights are converted while they are downloaded (streaming conversion). Connects the downloads of `hub/` with
//! the `tulu_quantize` library.

use super::FetchOptions;
use super::hub::{FileHash, Hub, Listing};
use crate::error::{Code, Failure};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tulu_quantize::{
    Checkpoint, ConvertOptions, Error, Observer, Plan, RangeSource, RemoteCheckpoint, RemoteFile, Report,
    StreamOptions, can_stream, convert, convert_streaming, stream_memory,
};

/// A checkpoint. Its small files are on disk; its weights are on disk or remote.
#[derive(Debug)]
pub(crate) struct CheckpointSource {
    checkpoint: Checkpoint,
    remote: Option<RemoteWeights>,
}

/// Weights on the Hub, and how to download them.
#[derive(Debug)]
struct RemoteWeights {
    ranges: Arc<HubRangeSource>,
    source: RemoteCheckpoint,
    connections: NonZeroUsize,
}

impl From<Checkpoint> for CheckpointSource {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, remote: None }
    }
}

impl CheckpointSource {
    /// Opens a listed repository. Downloads the small files into the Hugging Face cache, and the weights only when
    /// `fetch` keeps the checkpoint. A complete checkpoint in the cache is used as it is.
    pub(crate) fn listed(hub: &Hub, listing: Listing, fetch: &FetchOptions) -> Result<Self, Failure> {
        let connections = fetch.connections;
        let needed = listing.needed()?;
        let files: Option<Vec<RemoteFile>> = needed
            .weights
            .iter()
            .map(|file| match &file.hash {
                FileHash::Sha256(hash) => {
                    Some(RemoteFile { name: file.path.clone(), len: file.size, sha256: hash.to_lowercase() })
                }
                FileHash::GitSha1(_) => None,
            })
            .collect();
        let Some(files) = files.filter(|_| !fetch.keep_checkpoint && hub.to_fetch(&listing, &needed.weights) > 0)
        else {
            let folder = hub.pull(&listing, &needed.all(), connections)?;
            return Ok(Checkpoint::open(&folder)?.into());
        };
        let folder = hub.pull(&listing, &needed.others, connections)?;
        let (id, commit) = (listing.repo.id(), listing.commit.clone());
        let ranges = Arc::new(HubRangeSource { hub: hub.clone(), listing, failed: Mutex::default() });
        let source = RemoteCheckpoint::new(ranges.clone(), &id, &commit, files);
        let opened = Checkpoint::open_with(&folder, &source);
        let checkpoint = opened.map_err(|err| ranges.failed().unwrap_or_else(|| err.into()))?;
        Ok(Self { checkpoint, remote: Some(RemoteWeights { ranges, source, connections }) })
    }

    /// Returns the configuration, tokenizer and list of tensors.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Returns `owner/name@commit`, if the weights are remote.
    pub(crate) fn remote_name(&self) -> Option<String> {
        let listing = &self.remote.as_ref()?.ranges.listing;
        Some(format!("{}@{}", listing.repo.id(), listing.commit))
    }

    /// Returns the additional bytes of memory for a streaming conversion.
    pub(crate) fn stream_memory(&self, plan: &Plan) -> u64 {
        self.remote.as_ref().map_or(0, |remote| stream_memory(&remote.stream_options(plan, Path::new(""))))
    }

    /// Writes the outputs of `plan`. A streaming conversion keeps its progress in the file `journal` until it is
    /// finished.
    pub(crate) fn convert(
        &self,
        plan: &Plan,
        options: ConvertOptions,
        journal: &Path,
        observer: &dyn Observer,
    ) -> Result<Report, Failure> {
        let Some(remote) = &self.remote else { return Ok(convert(&self.checkpoint, plan, options, observer)?) };
        let streaming = remote.stream_options(plan, journal);
        if !can_stream(&self.checkpoint, plan, &streaming) {
            observer.note("some tensors share a storage; downloading the whole checkpoint first");
            let needed = remote.ranges.listing.needed()?;
            let folder = remote.ranges.hub.pull(&remote.ranges.listing, &needed.all(), remote.connections)?;
            let whole = Checkpoint::open(&folder)?;
            // the plan was made from the headers that were read before this download
            if whole.tensors != self.checkpoint.tensors {
                let what = "the headers of the weight files differ from those read before";
                return Err(Failure::machine(Code::HubHash, what, "run it again").at(&folder));
            }
            return Ok(convert(&whole, plan, options, observer)?);
        }
        for other in other_journals(&self.checkpoint.name(), journal) {
            let what = "belongs to an interrupted conversion to other types; run its command to resume it";
            observer.note(&format!("{} {what}", other.display()));
        }
        convert_streaming(&self.checkpoint, plan, &remote.source, options, &streaming, observer).map_err(
            |err| match err.code {
                tulu_quantize::Code::Fetch => remote.ranges.failed().unwrap_or_else(|| err.into()),
                // the same code as for a wrong hash of a file in the cache
                tulu_quantize::Code::Sha256 => Failure { code: Code::HubHash, ..err.into() },
                _ => err.into(),
            },
        )
    }
}

impl RemoteWeights {
    fn stream_options(&self, plan: &Plan, journal: &Path) -> StreamOptions {
        StreamOptions {
            connections: self.connections,
            ..StreamOptions::for_size(plan.source_bytes, journal.to_owned())
        }
    }
}

/// Returns the path of the journal for converting `name` with `plan`: next to the output whose type comes first. Its
/// name contains the types, so that a conversion to other types has another journal.
pub(crate) fn journal_of(name: &str, plan: &Plan) -> PathBuf {
    let mut outputs: Vec<_> = plan.outputs.iter().collect();
    outputs.sort_by_key(|output| output.ftype);
    let types: Vec<&str> = outputs.iter().map(|output| output.ftype.name()).collect();
    let first = outputs.first().map_or(Path::new(""), |output| &output.path);
    journal(&format!("{name}-{}", types.join("-")), first)
}

/// Returns the path of the journal for converting `name`, next to its first output.
pub(crate) fn journal(name: &str, output: &Path) -> PathBuf {
    output.with_file_name(format!("{name}.tulu-journal"))
}

/// Returns the other journals of `name` in the folder of `journal`.
fn other_journals(name: &str, journal: &Path) -> Vec<PathBuf> {
    let folder = journal.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_other = |path: &PathBuf| {
        let found = path.file_name().map(|found| found.to_string_lossy().into_owned()).unwrap_or_default();
        found.starts_with(name) && found.ends_with(".tulu-journal") && path.file_name() != journal.file_name()
    };
    let mut all: Vec<PathBuf> = entries.filter(is_other).collect();
    all.sort();
    all
}

/// Serves ranges of the Hub's files to the library. Keeps the first failure, because the library's errors cannot carry
/// the Hub's error codes.
#[derive(Debug)]
struct HubRangeSource {
    hub: Hub,
    listing: Listing,
    failed: Mutex<Option<Failure>>,
}

impl HubRangeSource {
    fn failed(&self) -> Option<Failure> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl RangeSource for HubRangeSource {
    fn fetch(
        &self,
        name: &str,
        range: Range<u64>,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let file =
            self.listing.file(name).ok_or_else(|| Error::fetch(name, "is not listed", "check the repository"))?;
        let mut refused = None;
        let got = self.hub.get_range(&self.listing, file, range, &mut |part| {
            sink(part).map_err(|err| {
                refused = Some(err.clone());
                err.into()
            })
        });
        let Err(failure) = got else { return Ok(()) };
        Err(refused.unwrap_or_else(|| {
            let err = Error::fetch(name, failure.what.clone(), failure.fix.clone());
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
            err
        }))
    }
}

//! Prints the disk space, memory and licence of a download and conversion, and asks for confirmation.

use super::FetchOptions;
use super::hub::{Hub, Listing, NeededFiles, RepoId, check_disk_space};
use super::if_exists;
use super::registry;
use crate::engine::{EngineSettings, Forecast, ModelDims, TensorSizes};
use crate::error::{Code, Failure};
use crate::sanitize::{one_line, shown};
use crate::stderr;
use crate::table;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use tulu_quantize::checkpoint::Config;
use tulu_quantize::{Ftype, part_of, platform, size_estimate};

/// Approximate bytes of a GGUF header for each token of the vocabulary: a SentencePiece token has a score, a token of
/// Llama 3 has two merges.
const HEADER_PER_TOKEN: u64 = 62;

/// A download and conversion that is about to start.
pub(crate) struct Confirmation<'a> {
    pub(crate) listing: &'a Listing,
    pub(crate) needed: &'a NeededFiles<'a>,
    pub(crate) config: Config,
    /// Type, path and approximate bytes of each output.
    pub(crate) outputs: Vec<(Ftype, PathBuf, u64)>,
    /// Bytes to download.
    pub(crate) to_fetch: u64,
    /// Whether the checkpoint stays on disk.
    pub(crate) keeps_checkpoint: bool,
}

impl<'a> Confirmation<'a> {
    /// Downloads and checks config.json, before anything large is downloaded.
    pub(crate) fn new(
        hub: &Hub,
        listing: &'a Listing,
        needed: &'a NeededFiles<'a>,
        outputs: &[(Ftype, PathBuf)],
        keeps_checkpoint: bool,
    ) -> Result<Self, Failure> {
        let config = config(hub, listing)?;
        let sized = |(ftype, path): &(Ftype, PathBuf)| {
            let bytes = size_estimate::tensor_bytes(&config, *ftype);
            let bytes = bytes.map_err(|err| Failure::input(Code::Type, err.to_string(), "choose another type"))?;
            Ok((*ftype, path.clone(), bytes.saturating_add(header(&config))))
        };
        let outputs = outputs.iter().map(sized).collect::<Result<_, Failure>>()?;
        let to_fetch = hub.to_fetch(listing, &needed.all());
        Ok(Self { listing, needed, config, outputs, to_fetch, keeps_checkpoint })
    }

    /// Returns whether this resumes an interrupted run, which was confirmed already.
    fn is_resumed(&self) -> Result<bool, Failure> {
        for (_, path, _) in &self.outputs {
            if if_exists::metadata(&part_of(path))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the licence: from the table of the family, or else from the model card.
    pub(crate) fn licence(&self) -> String {
        let known = registry::find_repo(&self.listing.repo).map(|entry| entry.licence.to_owned());
        known
            .or_else(|| self.listing.licence.clone())
            .map_or_else(|| "not stated: see the model card".to_owned(), |text| one_line(&text))
    }

    /// Returns the memory to run the first output with its whole context.
    fn memory(&self) -> u64 {
        self.dims().memory_with_defaults()
    }

    /// Returns one line for each GPU: how many layers of the first output fit, about. A GPU that cannot be asked has none.
    fn gpus(&self) -> Vec<String> {
        let dims = self.dims();
        let settings = EngineSettings::default();
        let forecast = Forecast::new(&dims, &TensorSizes::estimate(&dims), &settings, 1);
        forecast.map_or_else(|_| Vec::new(), |forecast| forecast.lines())
    }

    /// Returns the dimensions of the first output.
    fn dims(&self) -> ModelDims {
        let weights = self.outputs.first().map_or(0, |(.., bytes)| bytes.saturating_sub(header(&self.config)));
        ModelDims::of(&self.config, weights)
    }

    /// Returns the lines that are printed before the question.
    pub(crate) fn summary(&self, cache: &Path) -> String {
        let (listing, bytes) = (self.listing, table::bytes);
        let here = self.needed.bytes().saturating_sub(self.to_fetch);
        let here = if here > 0 { format!(" ({} are here already)", bytes(here)) } else { String::new() };
        let mut out = format!(
            "{} at {:.8}\n  fetches   {}{here}, weights in {}\n",
            listing.repo.id(),
            listing.commit,
            bytes(self.to_fetch),
            table::count(self.needed.weights.len(), "file", "files"),
        );
        for (ftype, path, size) in &self.outputs {
            out += &format!("  makes     {ftype} of about {}: {}\n", bytes(*size), shown(path));
        }
        if self.keeps_checkpoint {
            out += &format!("  keeps     the checkpoint, {}, in {}\n", bytes(self.needed.bytes()), shown(cache));
        }
        out += &format!(
            "  memory    about {} to run it with its context of {} tokens\n  licence   {}\n",
            bytes(self.memory()),
            self.config.max_position_embeddings,
            self.licence(),
        );
        self.gpus().iter().for_each(|line| out += &format!("  GPU       about {line}\n"));
        if listing.gated {
            out += "  gated     its owners ask for an agreement on the model's page\n";
        }
        out
    }

    /// Prints the summary, checks the free disk space, and asks on a terminal. Without a terminal it does not ask, like
    /// `hf download` and `ollama`: a batch job would wait forever.
    ///
    /// # Errors
    /// `DISK_FULL`, `DECLINED`, `INTERRUPTED`.
    pub(crate) fn ask(&self, hub: &Hub, fetch: &FetchOptions) -> Result<(), Failure> {
        let cache = &hub.settings().cache.0;
        stderr::block(&self.summary(cache));
        self.check_disks(cache)?;
        if fetch.yes || self.is_resumed()? {
            return Ok(());
        }
        go_on(hub, &self.listing.repo)
    }

    /// Checks the free space for checkpoint and outputs, which may be on the same disk.
    fn check_disks(&self, cache: &Path) -> Result<(), Failure> {
        let fetched = if self.keeps_checkpoint { self.to_fetch } else { 0 };
        // the partial file of an output already uses its space
        let taken = |path: &Path| std::fs::metadata(part_of(path)).map_or(0, |found| found.len());
        let left = self.outputs.iter().map(|(_, path, bytes)| bytes.saturating_sub(taken(path)));
        let left = left.fold(0_u64, u64::saturating_add);
        let existing = |path: &Path| path.ancestors().find(|dir| dir.exists()).map(Path::to_owned);
        let output = self.outputs.first().and_then(|(_, path, _)| existing(path));
        let (Some(output), Some(cache)) = (output, existing(cache)) else { return Ok(()) };
        if platform::device(&output) == platform::device(&cache) {
            return check_disk_space(&output, fetched.saturating_add(left), "TULU_QUANT_CACHE and HF_HUB_CACHE");
        }
        check_disk_space(&output, left, "TULU_QUANT_CACHE")?;
        check_disk_space(&cache, fetched, "HF_HUB_CACHE")
    }
}

/// Asks on a terminal whether to go on with a download.
///
/// # Errors
/// `DECLINED`, `INTERRUPTED`.
pub(super) fn go_on(hub: &Hub, repo: &RepoId) -> Result<(), Failure> {
    let Some(terminal) = prompt_terminal() else { return Ok(()) };
    stderr::block("Go on? [Y/n] ");
    let check_cancelled = || hub.check_cancelled();
    match read_answer(terminal, &check_cancelled)?.as_deref().map(|text| text.trim().to_lowercase()).as_deref() {
        Some("" | "y" | "yes") => Ok(()),
        _ => Err(Failure::input(Code::Declined, "nothing was downloaded", "answer y, or give --yes").at(repo.id())),
    }
}

/// Returns where to read the answer to a question on stderr: stdin, or the terminal itself when stdin is a file or a
/// pipe. `None` when stderr is not a terminal.
pub(crate) fn prompt_terminal() -> Option<Box<dyn BufRead + Send>> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    if std::io::stdin().is_terminal() {
        return Some(Box::new(BufReader::new(std::io::stdin())));
    }
    Some(Box::new(BufReader::new(File::open("/dev/tty").ok()?)))
}

/// Reads a line from the terminal; `None` at its end. Another thread reads it, so that this thread can check for a
/// request to stop.
pub(crate) fn read_answer(
    mut terminal: Box<dyn BufRead + Send>,
    check_cancelled: &dyn Fn() -> Result<(), Failure>,
) -> Result<Option<String>, Failure> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = terminal.read_line(&mut line);
        let _ = sender.send(matches!(read, Ok(1..)).then_some(line));
    });
    loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => return Ok(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) => check_cancelled()?,
        }
    }
}

/// Returns the approximate bytes of the header of a GGUF file.
fn header(config: &Config) -> u64 {
    HEADER_PER_TOKEN.saturating_mul(u64::from(config.vocab_size))
}

/// Downloads the repository's config.json, and checks it like that of a checkpoint folder.
fn config(hub: &Hub, listing: &Listing) -> Result<Config, Failure> {
    let id = listing.repo.id();
    let file = listing.file("config.json").ok_or_else(|| {
        Failure::input(Code::HubNoWeights, "is not a checkpoint: it has no config.json", "check the repository").at(&id)
    })?;
    let folder = tempfile::tempdir().map_err(|err| Failure::io(&std::env::temp_dir(), "cannot make a folder", &err))?;
    let path = folder.path().join("config.json");
    std::fs::write(&path, hub.get_small_file(listing, file)?)
        .map_err(|err| Failure::io(&path, "cannot write", &err))?;
    let config = Config::read(folder.path());
    config.map_err(|err| Failure::from(err).at(format!("{id}/config.json")))
}

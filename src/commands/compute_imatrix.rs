//! Computes an importance matrix, or finishes a run that was stopped. For `imatrix`, and for `convert --imatrix auto`,
//! which keeps the result in the cache.

use super::load_model;
use crate::atomic_file::{self, Mode};
use crate::corpus::{self, Corpus, Purpose, Shipped};
use crate::engine::{EngineSettings, Model, N_CTX_MIN, Repack};
use crate::error::Failure;
use crate::imatrix::{self, Collection, Unfinished};
use crate::interrupt::Interrupt;
use crate::model::{self, FetchOptions, app_dirs, fingerprint, if_exists};
use crate::prompt::Prompts;
use crate::sanitize::shown;
use crate::stderr;
use crate::table;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tulu_quantize::{Checkpoint, Ftype, Imatrix, ImatrixSums, hex};

/// What is computed.
pub(super) struct Job<'a> {
    pub(super) model: &'a Model,
    pub(super) corpus: &'a Corpus,
    /// Tokens of a chunk.
    pub(super) n_ctx: usize,
    /// Largest number of chunks.
    pub(super) n_max: Option<usize>,
    /// Whether `output.weight` gets an entry.
    pub(super) process_output: bool,
}

/// Computes the sums of a job, or finishes a run of it that was stopped.
pub(super) fn compute(job: &Job<'_>, interrupt: &Interrupt) -> Result<ImatrixSums, Failure> {
    let Job { model, corpus, n_ctx, n_max, process_output } = *job;
    let template = if corpus.is_conversations() { model.chat_template() } else { None };
    let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(model.path()))?;
    let chunks = corpus::chunks(corpus, Purpose::Calibrate, &prompts, &model.vocab(), n_ctx, n_max)?;
    let identity = serde_json::json!({
        "version": 1, "model": fingerprint(model.path())?, "text": corpus.sha256(), "n_ctx": n_ctx,
        "n_chunks": chunks.len(), "process_output": process_output, "type_k": model.settings().type_k.name(),
        "type_v": model.settings().type_v.name(), "flash_attn": model.settings().flash_attn.name(),
    })
    .to_string();
    let mut unfinished = Unfinished::open(&cache_file(&format!("{}.sums", short_hash(&identity)))?, &identity)?;
    stderr::line(&format!(
        "Computing an importance matrix with {}: {} of {n_ctx} tokens of {}",
        shown(model.path()),
        table::count(chunks.len(), "chunk", "chunks"),
        corpus.name,
    ));
    let collection = Collection { chunks: &chunks, n_ctx, process_output, interrupt };
    let mut sums = imatrix::collect(model, &collection, &mut unfinished)?;
    sums.datasets.push(corpus.name.clone());
    unfinished.delete();
    Ok(sums)
}

/// Returns whether an importance matrix is to be made.
pub(super) fn is_auto(imatrix: &Path) -> bool {
    imatrix == Path::new("auto")
}

/// Weights above which the importance matrix is computed with a Q8_0 file.
const WEIGHTS_MAX_BF16: u64 = 2_000_000_000;

/// Returns an importance matrix of `checkpoint`, which the user named `source`, and the calibration text that the program
/// carries: from the cache, or computed with a BF16 or Q8_0 file that is made in the cache.
pub(super) fn automatic(
    checkpoint: &Checkpoint,
    source: &OsStr,
    n_threads: Option<u32>,
    fetch: &FetchOptions,
    interrupt: &Interrupt,
) -> Result<Imatrix, Failure> {
    let weights = checkpoint.tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum::<u64>();
    let ftype = if weights > WEIGHTS_MAX_BF16 { Ftype::Q8_0 } else { Ftype::BF16 };
    let corpus = Corpus::read(None, Shipped::Calibration)?;
    let path = model::resolve_as(source, ftype, fetch, interrupt)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let identity = format!("{} {}", fingerprint(&path)?, corpus.sha256());
    let name = format!("{stem}-{}.gguf", short_hash(&identity));
    let file = cache_file(&name)?;
    if !if_exists::is_file(&file)? {
        let settings = EngineSettings {
            n_ctx: Some(CHUNK.max(N_CTX_MIN)),
            n_threads,
            repack: Repack::On,
            ..EngineSettings::default()
        };
        let model = load_model::model(&path, settings, Some(1), interrupt)?;
        let job = Job { model: &model, corpus: &corpus, n_ctx: CHUNK as usize, n_max: None, process_output: false };
        let sums = compute(&job, interrupt)?;
        atomic_file::write(&file, &sums.encode(), Mode::Umask)?;
    }
    stderr::line(&format!("Using the importance matrix {}", shown(&file)));
    // Outputs record the name, not a path of this machine.
    Ok(Imatrix { file: name, ..Imatrix::read(&file)? })
}

/// Tokens of a chunk, the default of llama-imatrix.
const CHUNK: u32 = 512;

fn cache_file(name: &str) -> Result<PathBuf, Failure> {
    Ok(app_dirs::cache_dir()?.join("imatrix").join(name))
}

fn short_hash(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

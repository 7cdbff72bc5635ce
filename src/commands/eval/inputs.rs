//! The files of an evaluation: those that the user names, or those that `--types` makes of a checkpoint.

use super::super::compute_imatrix;
use super::super::conversion::{self, Wanted};
use super::args::Args;
use super::temporary;
use super::work_folder::WorkFolder;
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model::streaming::CheckpointSource;
use crate::model::{self, FetchOptions};
use crate::stderr;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::first_part;
use tulu_quantize::{Ftype, Imatrix, QuantizeOptions};

/// The files.
pub(super) struct Inputs {
    /// The model that the others are compared with.
    pub(super) base: Option<PathBuf>,
    /// The models.
    pub(super) files: Vec<PathBuf>,
    /// The folder of files that are deleted at the end.
    pub(super) folder: Option<WorkFolder>,
}

/// Finds or makes the files.
pub(super) fn find(args: &Args, interrupt: &Interrupt) -> Result<Inputs, Failure> {
    if args.types.is_empty() {
        let options = args.hub.options();
        let base =
            args.base.as_ref().map(|base| model::resolve_as(base, Ftype::BF16, &options, interrupt)).transpose()?;
        let files = args.files.iter().map(|file| model::resolve(Some(file), &options, interrupt));
        let files = files.collect::<Result<_, _>>()?;
        let folder = args.by_tensor.map(|_| WorkFolder::create()).transpose()?;
        return Ok(Inputs { base, files, folder });
    }
    let types = conversion::types(&args.types)?;
    let (source, opened) = open(args, "--types", interrupt)?;
    let recipe = recipe(args, source, &opened, interrupt)?;
    let folder = WorkFolder::create()?;
    let own = opened.checkpoint().gguf_file().map(Path::to_owned);
    let mut wanted = types.clone();
    let base_type = temporary::base_type(opened.checkpoint());
    if own.is_none() && !types.contains(&base_type) {
        wanted.insert(0, base_type);
    }
    let mut files = temporary::convert(&opened, &wanted, &recipe, (&folder, ""), interrupt)?;
    let base = match own {
        Some(own) => own,
        None => {
            let at = wanted.iter().position(|ftype| *ftype == base_type).unwrap_or(0);
            files.remove(at)
        }
    };
    Ok(Inputs { base: Some(base), files, folder: Some(folder) })
}

/// Opens the one source that the user named; a quantized file is allowed, because nothing is kept.
pub(super) fn open<'a>(
    args: &'a Args,
    flag: &str,
    interrupt: &Interrupt,
) -> Result<(&'a OsStr, CheckpointSource), Failure> {
    let [source] = &args.files[..] else {
        let fix = "give one checkpoint folder, model name or GGUF file";
        return Err(Failure::input(Code::Usage, format!("{flag} takes one model"), fix));
    };
    let fetch = FetchOptions { yes: true, ..args.hub.options() };
    let path = Path::new(source);
    let path = if path.is_file() { first_part(path)? } else { path.to_owned() };
    let wanted = Wanted { source: &path, allow_requantize: true, fetch: &fetch, command: "eval", flag: "--types" };
    let opened = conversion::open(&wanted, interrupt)?;
    let checkpoint = opened.checkpoint();
    if checkpoint.tensors.iter().any(|tensor| tensor.dtype.block_size() > 1) {
        stderr::note("the source is quantized already: the figures are of what another quantization adds");
    }
    Ok((source, opened))
}

/// Returns the options of the conversion.
pub(super) fn recipe(
    args: &Args,
    source: &OsStr,
    opened: &CheckpointSource,
    interrupt: &Interrupt,
) -> Result<QuantizeOptions, Failure> {
    let fetch = FetchOptions { yes: true, ..args.hub.options() };
    let imatrix = match args.imatrix.as_deref() {
        None => None,
        Some(file) if compute_imatrix::is_auto(file) => {
            let threads = args.scoring.threads();
            Some(compute_imatrix::automatic(opened.checkpoint(), source, threads, &fetch, interrupt)?)
        }
        Some(file) => Some(Imatrix::read(file)?),
    };
    Ok(QuantizeOptions { imatrix, ..QuantizeOptions::default() })
}

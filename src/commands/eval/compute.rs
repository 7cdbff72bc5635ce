//! Runs an evaluation: all models side by side where memory holds them, else one after the other, with the base's
//! distributions in a file.

use super::super::load_model;
use super::candidates::Candidate;
use super::setup::Setup;
use crate::engine::{Model, usable_devices};
use crate::error::{Code, Failure};
use crate::eval::{self, Base, BaseFile, Encoding, Journal, OutputMatrix, Pass, Store, Subject};
use crate::model::{app_dirs, if_exists};
use crate::platform::{Available, available_memory};
use crate::sanitize::shown;
use crate::stderr;
use crate::table;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tulu_quantize::hex;

/// How the models are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// All at the same time.
    Together,
    /// One after the other; the base's distributions are in a file that is deleted at the end, unless the user named it.
    OneByOne { file: PathBuf, keep: bool },
}

/// Decides how the models are computed, and returns the bytes of memory that this needs.
///
/// # Errors
/// `MEMORY` when not even one model fits.
pub(super) fn plan(setup: &Setup<'_>, file: Option<&Path>, encoding: Encoding) -> Result<(Way, u64), Failure> {
    let available = available_memory();
    let together = setup.candidates.iter().map(|one| setup.memory(one)).fold(0, u64::saturating_add);
    let has_swaps = setup.candidates.iter().any(|one| one.swap.is_some());
    if file.is_none() && !has_swaps && together <= available.bytes && devices_hold(setup, together)? {
        return Ok((Way::Together, together));
    }
    let base = setup.base().map(|index| &setup.candidates[index]);
    // A stored base needs its output matrix in f32, and the logits of a group.
    let stored =
        base.map_or(0, |base| 4 * u64::from(base.dims.n_vocab) * u64::from(base.dims.n_embd) + 2 * setup.logits(base));
    let largest = setup.candidates.iter().map(|one| setup.memory(one)).max().unwrap_or(0).saturating_add(stored);
    if largest > available.bytes {
        return Err(too_large(largest, &available));
    }
    let way = match (file, base) {
        (Some(file), _) => Way::OneByOne { file: file.to_owned(), keep: true },
        (None, None) => Way::OneByOne { file: PathBuf::new(), keep: false },
        (None, Some(base)) => {
            let identity = setup.base_identity(base, encoding.name())?.to_string();
            let name = format!("{}.base", hex(&Sha256::digest(identity)[..8]));
            let folder = match setup.folder {
                Some(folder) => folder.to_owned(),
                None => app_dirs::cache_dir()?.join("eval"),
            };
            Way::OneByOne { file: folder.join(name), keep: false }
        }
    };
    Ok((way, largest))
}

/// Whether the devices that are used, if any, hold all models at the same time with some room to spare.
fn devices_hold(setup: &Setup<'_>, together: u64) -> Result<bool, Failure> {
    let mut room = u64::MAX;
    for one in setup.candidates {
        let devices = usable_devices(&one.settings.gpu)?;
        if !devices.is_empty() {
            room = room.min(devices.iter().map(|one| one.budget / 4 * 3).sum());
        }
    }
    Ok(together <= room)
}

fn too_large(needed: u64, available: &Available) -> Failure {
    let (needed, free) = (table::gib(needed), table::gib(available.bytes));
    let what = format!("the largest model needs {needed} of memory, and {free} {}", available.bound);
    Failure::machine(Code::Memory, what, format!("{}, or give a smaller -c", available.more))
}

/// Loads a candidate.
pub(super) fn load(one: &Candidate, setup: &Setup<'_>) -> Result<Model, Failure> {
    load_model::model(&one.path, one.settings.clone(), Some(1), setup.interrupt)
}

fn subject<'m>(index: usize, model: &'m Model, setup: &Setup<'_>) -> Result<Subject<'m>, Failure> {
    let context = model.scoring_context(setup.n_ctx, None, setup.interrupt)?;
    Ok(Subject { index, path: model.path().to_owned(), context, time: Duration::ZERO, n_tokens: 0 })
}

fn pass_of<'a>(setup: &Setup<'a>) -> Pass<'a> {
    Pass {
        label: "evaluating",
        chunks: setup.chunks,
        n_ctx: setup.n_ctx,
        n_threads: setup.n_threads,
        interrupt: setup.interrupt,
    }
}

/// Computes all models side by side, and returns them.
pub(super) fn together(setup: &Setup<'_>, journal: &mut Journal) -> Result<Vec<Model>, Failure> {
    let models = setup.candidates.iter().map(|one| load(one, setup)).collect::<Result<Vec<_>, _>>()?;
    let subjects = models.iter().enumerate().map(|(index, model)| subject(index, model, setup));
    let (mut bases, mut others): (Vec<_>, Vec<_>) = subjects
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .partition(|subject| setup.candidates[subject.index].is_base);
    let mut base = bases.first_mut().map_or(Base::None, Base::Live);
    eval::pass(&pass_of(setup), &mut base, &mut others, journal)?;
    drop((bases, others));
    Ok(models)
}

/// Computes the base into `path`, as far as it is not there, then each other model. Returns the file.
pub(super) fn one_by_one(
    setup: &Setup<'_>,
    path: &Path,
    encoding: Encoding,
    journal: &mut Journal,
) -> Result<Option<BaseFile>, Failure> {
    let mut stored = None;
    if let Some(index) = setup.base() {
        let base = &setup.candidates[index];
        let identity = setup.base_identity(base, encoding.name())?.to_string();
        let mut file = BaseFile::open(path, &identity)?;
        let matrix = OutputMatrix::read(&base.path)?;
        if file.chunks() < setup.chunks.len() {
            stderr::line(&format!("Keeping the base's distributions in {}", shown(path)));
            let Setup { chunks, n_ctx, n_threads, interrupt, .. } = *setup;
            let store = Store { chunks, n_ctx, encoding, n_threads, interrupt };
            eval::store(&store, &load(base, setup)?, &matrix, &mut file)?;
        }
        for group in journal.finished(index)..setup.chunks.len().div_ceil(eval::group_len(setup.n_ctx)) {
            let scores = eval::stored_scores(&mut file, group, setup.n_ctx, setup.chunks)?;
            journal.add(vec![(index, scores)])?;
        }
        stored = Some((file, matrix));
    }
    let all = setup.chunks.len().div_ceil(eval::group_len(setup.n_ctx));
    for (index, one) in setup.candidates.iter().enumerate() {
        if one.is_base || journal.finished(index) >= all {
            continue;
        }
        let base_path = setup.base().map(|base| &setup.candidates[base].path);
        let _made = match (&one.swap, base_path) {
            (Some(swap), Some(base)) => Some(swap.make(&one.path, base, setup.interrupt)?),
            _ => None,
        };
        let model = load(one, setup)?;
        let mut subjects = [subject(index, &model, setup)?];
        let mut base = match &mut stored {
            Some((file, matrix)) => Base::Stored { file, matrix, encoding },
            None => Base::None,
        };
        let label = match &one.swap {
            Some(swap) => format!("evaluating {}", swap.group.name),
            None => "evaluating".to_owned(),
        };
        eval::pass(&Pass { label: &label, ..pass_of(setup) }, &mut base, &mut subjects, journal)?;
    }
    Ok(stored.map(|(file, _)| file))
}

/// Deletes the file with the base's distributions, if the user did not name it.
pub(super) fn clean(way: &Way, file: Option<BaseFile>) -> Result<(), Failure> {
    match (way, file) {
        (Way::OneByOne { keep: false, .. }, Some(file)) => file.delete(),
        (Way::OneByOne { file: path, keep: true }, Some(file)) if if_exists::is_file(path)? => {
            stderr::line(&format!("Kept {} of the base's distributions in {}", table::bytes(file.len()), shown(path)));
        }
        _ => {}
    }
    Ok(())
}

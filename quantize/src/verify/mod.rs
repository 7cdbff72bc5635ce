//! Is a GGUF file what it should be? Header and offsets ([`Gguf::open`] checks them), the tensors that its own numbers ask
//! for, every block's scales, every weight finite, the file's sha256; and against what it was made from, how far each block
//! is from it, and whether the numbers and the vocabulary are the same. The file is read once (`pieces.rs`).

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::as_conversions))]

mod block_error;
mod checkpoint;
mod model;
mod pieces;

pub use checkpoint::{FileCheck, verify_checkpoint};
pub use model::table_problems;

use crate::checkpoint::Checkpoint;
use crate::convert::f32_rows::{Reader, first_not_finite};
use crate::error::{Code, Error, Result};
use crate::gguf::{Gguf, TensorInfo, Value, align};
use crate::gguf_metadata;
use crate::observer::Observer;
use crate::plan::{Plan, PlannedTensor};
use crate::positioned::read_exact_at;
use crate::quantize_options::Recipe;
use crate::worker_pool;
use block_error::{Between, Sums, Wrong};
use llama_ext::{Ftype, GgmlType};
use pieces::{Alarm, InOrder, Part, Piece};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What a file was made from.
#[derive(Debug)]
pub struct Reference(Kind);

#[derive(Debug)]
enum Kind {
    /// A checkpoint, with the names and shapes its tensors have in a GGUF file.
    Checkpoint { source: Box<Checkpoint>, tensors: HashMap<String, PlannedTensor> },
    /// Another GGUF file, usually a lossless one.
    Gguf { gguf: Box<Gguf>, tensors: HashMap<String, TensorInfo> },
}

impl Reference {
    /// Compare with the checkpoint `source`.
    ///
    /// # Errors
    /// [`Error`] when its tensors are not those of its configuration.
    pub fn checkpoint(source: Checkpoint) -> Result<Self> {
        let nowhere = [(Ftype::F32, PathBuf::from("unused.gguf"))];
        let plan = Plan::new(&source, &nowhere, &Recipe::default())?;
        let tensors = plan.tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
        Ok(Self(Kind::Checkpoint { source: Box::new(source), tensors }))
    }

    /// Compare with the GGUF file `gguf`.
    #[must_use]
    pub fn gguf(gguf: Gguf) -> Self {
        let tensors = gguf.tensors.iter().map(|t| (t.name.clone(), t.clone())).collect();
        Self(Kind::Gguf { gguf: Box::new(gguf), tensors })
    }

    /// Dimensions of a tensor in ggml's order, if there is such a tensor.
    fn dims(&self, name: &str) -> Option<&[u64]> {
        match &self.0 {
            Kind::Checkpoint { tensors, .. } => tensors.get(name).map(|t| t.dims.as_slice()),
            Kind::Gguf { tensors, .. } => tensors.get(name).map(|t| t.dims.as_slice()),
        }
    }

    fn names(&self) -> Vec<&str> {
        match &self.0 {
            Kind::Checkpoint { tensors, .. } => tensors.keys().map(String::as_str).collect(),
            Kind::Gguf { gguf, .. } => gguf.tensors.iter().map(|t| t.name.as_str()).collect(),
        }
    }

    /// The key-value pairs that a file made from this has.
    fn pairs(&self) -> Vec<(String, Value)> {
        match &self.0 {
            Kind::Checkpoint { source, .. } => gguf_metadata::pairs(source, Ftype::F32, 0, None),
            Kind::Gguf { gguf, .. } => gguf.pairs.clone(),
        }
    }

    /// Rows that have to be read together: a checkpoint's rotary rows are interleaved within a head.
    fn unit(&self) -> u64 {
        match &self.0 {
            Kind::Checkpoint { source, .. } => u64::from(source.config.head_dim),
            Kind::Gguf { .. } => 1,
        }
    }
}

/// How far a tensor is from its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Root of the mean squared difference.
    pub rmse: f64,
    /// Largest difference.
    pub max: f64,
    /// `rmse` over the root mean square of the reference.
    pub relative: f64,
}

/// What was found of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// GGUF name.
    pub name: String,
    /// How it is stored.
    pub kind: GgmlType,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// How far it is from the reference, where there is one.
    pub distance: Option<Distance>,
}

/// What was found of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Of the whole file, in hexadecimal.
    pub sha256: String,
    /// One for each tensor, in file order.
    pub tensors: Vec<Check>,
    /// What is wrong with the file as a whole.
    pub problems: Vec<String>,
    /// What could not be checked, and other things to know.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.tensors.iter().all(|t| t.problem.is_none())
    }
}

/// Reads all of `file` once: pieces go over the threads in the order of the file, and each is hashed, checked and, where
/// there is a reference, compared.
///
/// # Errors
/// [`Error`] when a file cannot be read, or the observer cancels. What is wrong with the contents is in the [`Verdict`].
pub fn verify(
    file: &Gguf,
    against: Option<&Reference>,
    threads: NonZeroUsize,
    observer: &dyn Observer,
) -> Result<Verdict> {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    whole(file, against, &mut problems, &mut notes);
    let found: Vec<Mutex<Found>> = file.tensors.iter().map(|t| Mutex::new(Found::new(t, against))).collect();
    let is_compared = |tensor: usize| found.get(tensor).is_some_and(|f| lock(f).between.is_some());
    let pieces = pieces::cut(file, |tensor| if is_compared(tensor) { against.map_or(1, Reference::unit) } else { 1 });
    let order = InOrder::new();
    worker_pool::each(threads, pieces.len(), &file.path, |number, buffers: &mut Buffers| {
        let mut alarm = Alarm { order: &order, well: false };
        if let Some(piece) = pieces.get(number) {
            cancelled(file, observer)?;
            let bytes = read(file, piece)?;
            if let Some(part) = piece.part
                && let (Some(t), Some(found)) = (file.tensors.get(part.tensor), found.get(part.tensor))
            {
                check(file, t, part, &bytes, against, found, buffers)?;
                observer.advanced(&t.name, piece.len);
            }
            order.give(number, bytes);
        }
        alarm.well = true;
        Ok(())
    })?;
    let each = file.tensors.iter().zip(found);
    let tensors = each.map(|(t, f)| f.into_inner().unwrap_or_else(PoisonError::into_inner).check(t)).collect();
    Ok(Verdict { sha256: order.finish(), tensors, problems, notes })
}

fn lock(found: &Mutex<Found>) -> std::sync::MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What can be said of the file as a whole.
fn whole(file: &Gguf, against: Option<&Reference>, problems: &mut Vec<String>, notes: &mut Vec<String>) {
    let part = file.part().unwrap_or_else(|what| {
        problems.push(what);
        None
    });
    if let Some((n, of)) = part {
        notes.push(format!("is part {n} of {of} of a split file; only the tensors of this part are checked"));
    }
    let padded = align(file.end(), file.alignment).unwrap_or(u64::MAX);
    if file.len > padded {
        let more = file.len.saturating_sub(padded);
        problems.push(format!("{more} bytes follow the last tensor, from byte {padded}"));
    }
    if file.tensors.is_empty() && part.is_none() {
        problems.push("has no tensors".to_owned());
    } else if part.is_none() && against.is_none() {
        match file.str("general.architecture") {
            Some("llama") => match model::table_problems(file) {
                Ok(found) => problems.extend(found),
                Err(what) => problems.push(what),
            },
            other => notes.push(format!(
                "is of architecture {}: whether its tensors are all there is not known here",
                other.unwrap_or("unknown")
            )),
        }
    }
    let Some(reference) = against else { return };
    let have: std::collections::HashSet<&str> = file.tensors.iter().map(|t| t.name.as_str()).collect();
    if part.is_none() {
        let mut missing: Vec<&str> = reference.names().into_iter().filter(|name| !have.contains(name)).collect();
        missing.sort_unstable();
        let missing = missing.iter().map(|name| format!("tensor '{name}' is missing")).collect();
        problems.extend(model::shortened(missing));
    }
    if part.is_none_or(|(n, _)| n == 1) {
        problems.extend(model::differences(&file.pairs, &reference.pairs()));
    }
}

#[derive(Default)]
struct Buffers {
    weights: Vec<f32>,
    bytes: Vec<u8>,
    other: Vec<f32>,
    reader: Reader,
}

fn cancelled(file: &Gguf, observer: &dyn Observer) -> Result<()> {
    if observer.cancelled() {
        return Err(Error::new(Code::Interrupted, &file.path, "stopped", "run it again"));
    }
    Ok(())
}

fn read(file: &Gguf, piece: &Piece) -> Result<Vec<u8>> {
    let mut bytes = vec![0; narrow(piece.len)];
    read_exact_at(&file.file, &mut bytes, piece.offset).map_err(|err| {
        if err.kind() == std::io::ErrorKind::UnexpectedEof {
            let what = format!("ended before byte {} while it was read", file.len);
            return Error::new(Code::InputChanged, &file.path, what, "run it again when the file is at rest");
        }
        Error::io(&file.path, &format!("read the file at byte {}", piece.offset), &err)
    })?;
    Ok(bytes)
}

/// What is known of a tensor so far.
struct Found {
    /// What is wrong with it as a whole.
    shape: Option<String>,
    /// Between what it is measured, where it is.
    between: Option<Between>,
    sums: Sums,
    /// The first weight that something is wrong with, and what.
    first: Option<(u64, String)>,
    /// Windows that are too far from the source.
    far: u64,
}

impl Found {
    fn new(t: &TensorInfo, against: Option<&Reference>) -> Self {
        let (mut shape, mut between) = (None, None);
        if let Some(reference) = against {
            match reference.dims(&t.name) {
                Some(dims) if dims == t.dims => {
                    let source = match &reference.0 {
                        // its weights are what they are
                        Kind::Checkpoint { .. } => GgmlType::F32,
                        Kind::Gguf { tensors, .. } => tensors.get(&t.name).map_or(GgmlType::F32, |t| t.kind),
                    };
                    between = Some(Between { file: t.kind, source, weighed: false });
                }
                Some(dims) => shape = Some(format!("has shape {:?}, the source has {dims:?}", t.dims)),
                None => shape = Some("is not in the source".to_owned()),
            }
        }
        Self { shape, between, sums: Sums::default(), first: None, far: 0 }
    }

    fn wrong(&mut self, at: u64, what: String) {
        if self.first.as_ref().is_none_or(|(first, _)| at < *first) {
            self.first = Some((at, what));
        }
    }

    fn check(self, t: &TensorInfo) -> Check {
        let more = self.far.saturating_sub(1);
        let more = if more > 0 { format!(", and {more} more places are as wrong") } else { String::new() };
        let problem = self.shape.or(self.first.map(|(_, what)| what + &more));
        let distance = self.between.map(|_| {
            #[allow(clippy::cast_precision_loss, clippy::as_conversions, reason = "an average")]
            let rmse = (self.sums.squared_difference / t.n_weights().max(1) as f64).sqrt();
            Distance { rmse, max: self.sums.max, relative: self.sums.relative() }
        });
        Check { name: t.name.clone(), kind: t.kind, problem, distance }
    }
}

/// Looks at some weights of tensor `t`, of which `bytes` are in the file.
fn check(
    file: &Gguf,
    t: &TensorInfo,
    part: Part,
    bytes: &[u8],
    against: Option<&Reference>,
    found: &Mutex<Found>,
    buffers: &mut Buffers,
) -> Result<()> {
    let columns = t.n_per_row().max(1);
    let place = |at: u64| (at.checked_div(columns).unwrap_or(0), at.checked_rem(columns).unwrap_or(0));
    buffers.weights.resize(narrow(part.count), 0.0);
    llama_ext::to_f32(t.kind, bytes, &mut buffers.weights)
        .map_err(|err| Error::new(Code::Engine, &file.path, format!("{}: {err}", t.name), "report this"))?;
    let block = u64::try_from(t.kind.block_size()).unwrap_or(1);
    if let Some(bad) = llama_ext::blocks::first_bad(t.kind, bytes) {
        let at = part.first.saturating_add(wide(bad).saturating_mul(block));
        let (row, column) = place(at);
        let what = match block {
            1 => format!("has a weight that is no number at row {row}, column {column}"),
            _ => format!("has a block whose scale is not a number at row {row}, column {column}"),
        };
        lock(found).wrong(at, what);
    } else if let Some(bad) = first_not_finite(&buffers.weights) {
        let at = part.first.saturating_add(wide(bad));
        let (row, column) = place(at);
        let value = buffers.weights.get(bad).copied().unwrap_or(f32::NAN);
        lock(found).wrong(at, format!("has {value} at row {row}, column {column}"));
    }
    let between = lock(found).between;
    let (Some(reference), Some(between)) = (against, between) else { return Ok(()) };
    let weighed = file.pairs.iter().any(|(key, _)| key.starts_with("quantize.imatrix."));
    let Buffers { weights, bytes, other, reader } = buffers;
    let right = source_of(reference, t, part, bytes, other, reader)?;
    let (sums, first, far) = block_error::compare(weights, right, narrow(columns), Between { weighed, ..between });
    let mut found = lock(found);
    found.sums.add(sums);
    found.far = found.far.saturating_add(far);
    if let Some(Wrong { at, len, what }) = first {
        let at = part.first.saturating_add(wide(at));
        let ((row, column), last) = (place(at), wide(len).saturating_sub(1));
        let to = column.saturating_add(last);
        found.wrong(at, format!("{what} at row {row}, columns {column} to {to}"));
    }
    Ok(())
}

/// The same weights of the reference.
fn source_of<'a>(
    reference: &Reference,
    t: &TensorInfo,
    part: Part,
    bytes: &mut Vec<u8>,
    other: &'a mut Vec<f32>,
    reader: &'a mut Reader,
) -> Result<&'a [f32]> {
    match &reference.0 {
        Kind::Checkpoint { source, tensors } => {
            let Some(planned) = tensors.get(&t.name) else { return Ok(&[]) };
            let columns = t.n_per_row();
            let shard = source.tensors.get(planned.source).and_then(|from| source.shards.get(from.shard));
            let Some(shard) = shard else { return Ok(&[]) };
            let rows = (part.first.checked_div(columns).unwrap_or(0), part.count.checked_div(columns).unwrap_or(0));
            let read = |buf: &mut [u8], offset| shard.medium.read_exact_at(buf, offset);
            Ok(reader.read(source, &read, planned, rows)?.weights)
        }
        Kind::Gguf { gguf, tensors } => {
            let Some(theirs) = tensors.get(&t.name) else { return Ok(&[]) };
            let (block, block_bytes) = (wide(theirs.kind.block_size()).max(1), wide(theirs.kind.block_bytes()));
            let at = |weights: u64| weights.checked_div(block).unwrap_or(0).saturating_mul(block_bytes);
            bytes.resize(narrow(at(part.count)), 0);
            read_exact_at(&gguf.file, bytes, theirs.offset.saturating_add(at(part.first)))
                .map_err(|err| Error::io(&gguf.path, &format!("read tensor '{}'", t.name), &err))?;
            other.resize(narrow(part.count), 0.0);
            llama_ext::to_f32(theirs.kind, bytes, other)
                .map_err(|err| Error::new(Code::Engine, &gguf.path, format!("{}: {err}", t.name), "report this"))?;
            Ok(other)
        }
    }
}

/// Bounded by a piece or a row.
fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

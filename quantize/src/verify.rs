//! Is a GGUF file what it should be? Header and offsets ([`Gguf::open`] checks them), every block's scales, every weight
//! finite, the file's sha256; and against the weights it was made from, how far each tensor is from them.

use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::observer::Observer;
use crate::plan::{Plan, PlannedTensor};
use crate::pool;
use crate::positioned::read_exact_at;
use crate::recipe::Recipe;
use crate::weights::{Reader, first_not_finite};
use llama_ext::{Ftype, GgmlType};
use sha2::{Digest as _, Sha256};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;

/// Weights read at a time.
const CHUNK: u64 = 1 << 19;

/// The weights that a file was made from.
#[derive(Debug)]
pub enum Reference {
    /// A checkpoint, with the names and shapes its tensors have in a GGUF file.
    Checkpoint(Box<Checkpoint>, Vec<PlannedTensor>),
    /// Another GGUF file, usually a lossless one.
    Gguf(Box<Gguf>),
}

impl Reference {
    /// Compare with the checkpoint `source`.
    ///
    /// # Errors
    /// [`Error`] when its tensors are not those of its configuration.
    pub fn checkpoint(source: Checkpoint) -> Result<Self> {
        let nowhere = [(Ftype::F32, PathBuf::from("unused.gguf"))];
        let plan = Plan::new(&source, &nowhere, &Recipe::default())?;
        Ok(Self::Checkpoint(Box::new(source), plan.tensors))
    }

    /// Dimensions of a tensor in ggml's order, if there is such a tensor.
    fn dims(&self, name: &str) -> Option<&[u64]> {
        match self {
            Self::Checkpoint(_, tensors) => tensors.iter().find(|t| t.name == name).map(|t| t.dims.as_slice()),
            Self::Gguf(gguf) => gguf.tensors.iter().find(|t| t.name == name).map(|t| t.dims.as_slice()),
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Checkpoint(_, tensors) => tensors.iter().map(|t| t.name.as_str()).collect(),
            Self::Gguf(gguf) => gguf.tensors.iter().map(|t| t.name.as_str()).collect(),
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
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.tensors.iter().all(|t| t.problem.is_none())
    }
}

/// Three times the relative error that bell-shaped weights have in a type: more means other weights.
const fn tolerance(kind: GgmlType) -> f64 {
    match kind {
        GgmlType::F32 => 1e-7,
        GgmlType::F16 => 1e-3,
        GgmlType::BF16 => 6e-3,
        GgmlType::Q8_0 => 0.02,
        GgmlType::Q6_K => 0.06,
        GgmlType::Q5_K | GgmlType::Q5_1 | GgmlType::Q5_0 => 0.15,
        GgmlType::Q4_K | GgmlType::Q4_1 | GgmlType::Q4_0 | GgmlType::IQ4_NL | GgmlType::IQ4_XS => 0.3,
        GgmlType::Q3_K => 0.5,
        GgmlType::Q2_K => 0.9,
    }
}

/// Reads all of `file` twice: once for its hash, once tensor by tensor.
///
/// # Errors
/// [`Error`] when a file cannot be read, or the observer cancels. What is wrong with the contents is in the [`Verdict`].
pub fn verify(
    file: &Gguf,
    against: Option<&Reference>,
    threads: NonZeroUsize,
    observer: &dyn Observer,
) -> Result<Verdict> {
    let checks = Mutex::new(vec![None; file.tensors.len()]);
    let mut problems = Vec::new();
    if let Some(reference) = against {
        let missing = |name: &&str| !file.tensors.iter().any(|t| t.name == **name);
        problems.extend(reference.names().iter().filter(|n| missing(n)).map(|n| format!("tensor '{n}' is missing")));
    }
    // the hash is one long chain, so it runs beside the tensors
    let (hash, scanned) = std::thread::scope(|scope| {
        let hash = scope.spawn(|| sha256(file, observer));
        let scanned = pool::each(threads, file.tensors.len(), &file.path, |i, buffers: &mut Buffers| {
            let check = check(file, &file.tensors[i], against, buffers, observer)?;
            if let Ok(mut checks) = checks.lock() {
                checks[i] = Some(check);
            }
            Ok(())
        });
        (hash.join(), scanned)
    });
    scanned?;
    let sha256 = hash.map_err(|_| Error::new(Code::Engine, &file.path, "the hashing thread died", "report this"))??;
    let tensors = checks.into_inner().map(|c| c.into_iter().flatten().collect()).unwrap_or_default();
    Ok(Verdict { sha256, tensors, problems })
}

#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    weights: Vec<f32>,
    reader: Reader,
}

fn cancelled(file: &Gguf, observer: &dyn Observer) -> Result<()> {
    if observer.cancelled() {
        return Err(Error::new(Code::Interrupted, &file.path, "stopped", "run it again"));
    }
    Ok(())
}

fn sha256(file: &Gguf, observer: &dyn Observer) -> Result<String> {
    let (mut hash, mut block, mut at) = (Sha256::new(), vec![0; 1 << 20], 0);
    while at < file.len {
        cancelled(file, observer)?;
        let n = (file.len - at).min(block.len() as u64);
        let part = &mut block[..usize::try_from(n).unwrap_or(0)];
        read_exact_at(&file.file, part, at).map_err(|err| Error::io(&file.path, "read the file", &err))?;
        hash.update(part);
        at += n;
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Sums over the chunks of a tensor.
#[derive(Default)]
struct Sums {
    squared_difference: f64,
    squared: f64,
    max: f64,
}

fn check(
    file: &Gguf,
    t: &TensorInfo,
    against: Option<&Reference>,
    buffers: &mut Buffers,
    observer: &dyn Observer,
) -> Result<Check> {
    let mut found = Check { name: t.name.clone(), kind: t.kind, problem: None, distance: None };
    let columns = t.dims.first().copied().unwrap_or(1).max(1);
    let n_rows: u64 = t.dims.iter().skip(1).product();
    let reference = match against.map(|r| r.dims(&t.name)) {
        None => None,
        Some(Some(dims)) if dims == t.dims => against,
        Some(Some(dims)) => {
            found.problem = Some(format!("has shape {:?}, the source has {dims:?}", t.dims));
            None
        }
        Some(None) => {
            found.problem = Some("is not in the source".to_owned());
            None
        }
    };
    // whole heads at a time: a checkpoint's rotary rows are interleaved within one
    let unit = match against {
        Some(Reference::Checkpoint(source, _)) => u64::from(source.config.head_dim),
        _ => 1,
    };
    let step = (CHUNK / columns / unit).max(1) * unit;
    let mut sums = Sums::default();
    let mut first = 0;
    while first < n_rows {
        cancelled(file, observer)?;
        let rows = step.min(n_rows - first);
        read_rows(file, t, (first, rows), &mut buffers.bytes, &mut buffers.weights)?;
        if found.problem.is_none() && !llama_ext::rows::is_valid(t.kind, &buffers.bytes) {
            found.problem =
                Some(format!("has a block whose scale is not a number, in rows {first} to {}", first + rows));
        }
        if found.problem.is_none()
            && let Some(at) = first_not_finite(&buffers.weights)
        {
            let (row, column) = (first + at as u64 / columns, at as u64 % columns);
            found.problem = Some(format!("has {} at row {row}, column {column}", buffers.weights[at]));
        }
        if let Some(reference) = reference {
            sums.add(reference, t, (first, rows), buffers)?;
        }
        observer.advanced(&t.name, t.bytes / n_rows * rows);
        first += rows;
    }
    if reference.is_some() {
        #[allow(clippy::cast_precision_loss, reason = "an average")]
        let n = (columns * n_rows) as f64;
        let rmse = (sums.squared_difference / n).sqrt();
        let relative = rmse / (sums.squared / n).sqrt().max(f64::MIN_POSITIVE);
        if found.problem.is_none() && (relative > tolerance(t.kind) || relative.is_nan()) {
            let usual = tolerance(t.kind);
            found.problem =
                Some(format!("is {relative:.4} of its size away from the source; {usual} is far for {}", t.kind));
        }
        found.distance = Some(Distance { rmse, max: sums.max, relative });
    }
    Ok(found)
}

impl Sums {
    fn add(&mut self, reference: &Reference, t: &TensorInfo, rows: (u64, u64), buffers: &mut Buffers) -> Result<()> {
        let Buffers { bytes, weights, reader } = buffers;
        let mut other = Vec::new();
        let right: &[f32] = match reference {
            Reference::Checkpoint(source, tensors) => match tensors.iter().find(|p| p.name == t.name) {
                Some(planned) => {
                    let medium = &source.shards[source.tensors[planned.source].shard].medium;
                    reader.read(source, &|buf, offset| medium.read_exact_at(buf, offset), planned, rows)?.weights
                }
                None => return Ok(()),
            },
            Reference::Gguf(gguf) => match gguf.tensors.iter().find(|p| p.name == t.name) {
                Some(theirs) => {
                    read_rows(gguf, theirs, rows, bytes, &mut other)?;
                    &other
                }
                None => return Ok(()),
            },
        };
        for (a, b) in weights.iter().zip(right) {
            let difference = f64::from(*a) - f64::from(*b);
            self.squared_difference += difference * difference;
            self.squared += f64::from(*b) * f64::from(*b);
            self.max = self.max.max(difference.abs());
        }
        Ok(())
    }
}

/// Rows of a tensor of a GGUF file, as they are and as f32.
fn read_rows(
    gguf: &Gguf,
    t: &TensorInfo,
    (first, rows): (u64, u64),
    bytes: &mut Vec<u8>,
    weights: &mut Vec<f32>,
) -> Result<()> {
    let n_rows: u64 = t.dims.iter().skip(1).product();
    let row_bytes = t.bytes / n_rows.max(1);
    let columns = t.dims.first().copied().unwrap_or(0);
    bytes.resize(usize::try_from(row_bytes * rows).unwrap_or(0), 0);
    weights.resize(usize::try_from(columns * rows).unwrap_or(0), 0.0);
    read_exact_at(&gguf.file, bytes, t.offset + row_bytes * first)
        .map_err(|err| Error::io(&gguf.path, &format!("read tensor '{}'", t.name), &err))?;
    llama_ext::to_f32(t.kind, bytes, weights)
        .map_err(|err| Error::new(Code::Engine, &gguf.path, format!("{}: {err}", t.name), "report this"))
}

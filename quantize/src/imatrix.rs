//! Reads importance matrices of llama-imatrix: for each tensor, the mean squared activation of every column. Both
//! formats are supported: GGUF (tensors `NAME.in_sum2` and `NAME.counts`) and the older `.dat`.

#![warn(clippy::arithmetic_side_effects)]

use crate::error::{Error, Result};
use crate::files::open_regular;
use crate::gguf::{Array, Gguf, MAGIC, Value};
use crate::imatrix_dat;
use crate::platform::read_exact_at;
use llama_ext::GgmlType;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Largest accepted importance: up to this value, the quantizers' sums of squares stay finite. Real values are some
/// thousands.
const MAX_WEIGHT: f32 = 1e15;

/// The importance of the columns of each tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Imatrix {
    /// Path of the file, as given.
    pub file: String,
    /// Dataset that it was computed with, if the file names it.
    pub dataset: Option<String>,
    /// Number of chunks of that dataset that were used; 0 if the file does not record it.
    pub chunks: u32,
    /// GGUF tensor name → importance of each column.
    pub entries: BTreeMap<String, Vec<f32>>,
}

impl Imatrix {
    /// Reads `path` in either format.
    ///
    /// # Errors
    /// [`Code::Imatrix`](crate::Code::Imatrix) when the file has another format, is damaged, or has a negative, huge, NaN or infinite value.
    pub fn read(path: &Path) -> Result<Self> {
        let read = match open(path)? {
            Format::Gguf => from_gguf(path)?,
            Format::Dat(file) => from_dat(path, file)?,
        };
        if read.entries.is_empty() {
            return Err(bad(path, "has no entries".to_owned()));
        }
        for (name, weights) in &read.entries {
            if weights.iter().any(|x| !x.is_finite()) {
                return Err(bad(path, format!("entry '{name}' contains NaN or infinity")));
            }
            if let Some(weight) = weights.iter().find(|x| !(0.0..=MAX_WEIGHT).contains(*x)) {
                return Err(bad(path, format!("entry '{name}' has a weight of {weight}, outside 0 to {MAX_WEIGHT:e}")));
            }
        }
        Ok(read)
    }
}

/// The format of a file.
pub(crate) enum Format {
    Gguf,
    Dat(File),
}

/// Opens the file at `path` and recognises its format.
pub(crate) fn open(path: &Path) -> Result<Format> {
    let (file, len) = open_regular(path)?;
    let mut magic = [0; 4];
    if !(8..=imatrix_dat::MAX_BYTES).contains(&len) {
        return Err(bad(path, format!("has {len} bytes")));
    }
    read_exact_at(&file, &mut magic, 0).map_err(|err| Error::io(path, "read the importance matrix", &err))?;
    Ok(if magic == MAGIC { Format::Gguf } else { Format::Dat(file) })
}

/// Creates the error about a file that is no importance matrix.
pub(crate) fn bad(path: &Path, what: String) -> Error {
    imatrix_dat::bad(path, what)
}

/// Reads the GGUF format: sums of squares and a count for each expert (LLaMA has one). For an expert that never ran,
/// all columns have the same importance.
fn from_gguf(path: &Path) -> Result<Imatrix> {
    let gguf = Gguf::open(path)?;
    let mut entries = BTreeMap::new();
    for sums in gguf.tensors.iter().filter(|t| t.name.ends_with(".in_sum2")) {
        let name = sums.name.trim_end_matches(".in_sum2");
        let counts = gguf.tensors.iter().find(|t| t.name.strip_suffix(".counts") == Some(name));
        let Some(counts) = counts else { return Err(bad(path, format!("entry '{name}' has sums and no counts"))) };
        let (sums, counts) = (floats(&gguf, sums)?, floats(&gguf, counts)?);
        if counts.is_empty() || sums.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            return Err(bad(path, format!("entry '{name}' has {} sums for {} counts", sums.len(), counts.len())));
        }
        let weights = sums.chunks(sums.len().checked_div(counts.len()).unwrap_or(1).max(1)).zip(counts).flat_map(
            |(sums, count)| {
                let count = count.round();
                sums.iter().map(move |sum| if count > 0.0 { sum / count } else { 1.0 }).collect::<Vec<_>>()
            },
        );
        entries.insert(name.to_owned(), weights.collect());
    }
    let dataset = match gguf.get("imatrix.datasets") {
        Some(Value::Array(Array::Str(names))) => names.first().cloned(),
        _ => return Err(bad(path, "is a GGUF file without imatrix.datasets".to_owned())),
    };
    Ok(Imatrix {
        file: path.to_string_lossy().into_owned(),
        dataset,
        chunks: gguf.u32("imatrix.chunk_count").unwrap_or(0),
        entries,
    })
}

/// Reads a tensor of f32.
pub(crate) fn floats(gguf: &Gguf, tensor: &crate::gguf::TensorInfo) -> Result<Vec<f32>> {
    if tensor.ggml_type != GgmlType::F32 {
        return Err(bad(&gguf.path, format!("tensor '{}' is {}, expected f32", tensor.name, tensor.ggml_type)));
    }
    let mut bytes = vec![0; usize::try_from(tensor.bytes).unwrap_or(0)];
    read_exact_at(&gguf.file, &mut bytes, tensor.offset).map_err(|err| Error::io(&gguf.path, "read a tensor", &err))?;
    let mut values = vec![0.0; bytes.len() / 4];
    let read = llama_ext::to_f32(GgmlType::F32, &bytes, &mut values);
    read.map_err(|err| bad(&gguf.path, err.to_string())).map(|()| values)
}

/// Takes the mean over the calls of llama-imatrix, as llama-quantize does.
fn from_dat(path: &Path, file: File) -> Result<Imatrix> {
    let dat = imatrix_dat::read(path, file)?;
    let entries = dat.entries.into_iter().map(|entry| {
        #[allow(clippy::cast_precision_loss, reason = "llama-quantize divides the same way")]
        let divisor = if entry.calls > 0 { entry.calls as f32 } else { 1.0 };
        (entry.name, entry.values.into_iter().map(|value| value / divisor).collect())
    });
    let entries = entries.collect();
    Ok(Imatrix { file: path.to_string_lossy().into_owned(), dataset: dat.dataset, chunks: dat.chunks, entries })
}

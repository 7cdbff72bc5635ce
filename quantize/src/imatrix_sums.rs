//! Importance matrices as sums, which can be added: for each tensor the sum of squared activations of every column, and the
//! number of rows. Writes llama-imatrix's GGUF format, the same bytes; reads it and the older `.dat`.

#![warn(clippy::arithmetic_side_effects)]

use crate::error::{Code, Error, Result};
use crate::gguf::{ALIGNMENT, Array, Gguf, TensorEntry, Value, align, encode_header};
use crate::imatrix::{self, Format, bad, floats};
use crate::imatrix_dat;
use llama_ext::GgmlType;
use std::collections::BTreeMap;
use std::path::Path;

/// The sums of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Sums of squares, one for each column; of several matrices one after the other.
    pub values: Vec<f32>,
    /// Rows of activations that were added, for each matrix.
    pub counts: Vec<u64>,
}

/// The sums of all tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImatrixSums {
    /// Files that it was computed with.
    pub datasets: Vec<String>,
    /// Tokens of a chunk.
    pub chunk_size: u32,
    /// GGUF tensor name → sums.
    pub entries: BTreeMap<String, Sums>,
}

impl ImatrixSums {
    /// Reads `path` in either format. A `.dat` file does not record the size of its chunks, so it counts as made of chunks
    /// of `chunk_size` tokens, as in llama-imatrix.
    ///
    /// # Errors
    /// [`Code::Imatrix`] when the file has another format, is damaged, or has a negative, NaN or infinite value.
    pub fn read(path: &Path, chunk_size: u32) -> Result<Self> {
        let read = match imatrix::open(path)? {
            Format::Gguf => from_gguf(path, chunk_size)?,
            Format::Dat(file) => from_dat(imatrix_dat::read(path, file)?, chunk_size),
        };
        if read.entries.is_empty() {
            return Err(bad(path, "has no entries".to_owned()));
        }
        for (name, sums) in &read.entries {
            if sums.values.iter().any(|x| !x.is_finite() || *x < 0.0) {
                return Err(bad(path, format!("entry '{name}' contains NaN, infinity or a negative sum")));
            }
        }
        Ok(read)
    }

    /// Returns the number of chunks, computed from the largest count, as llama-imatrix does.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        let most = self.entries.values().flat_map(|sums| &sums.counts).max().copied().unwrap_or(0);
        let chunks = most.checked_div(self.chunk_size.into()).unwrap_or(0);
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }

    /// Adds the sums of `other`, which was read from `path`, and its datasets.
    ///
    /// # Errors
    /// [`Code::Imatrix`] when a tensor has another number of columns or matrices there.
    pub fn add(&mut self, other: &Self, path: &Path) -> Result<()> {
        for (name, sums) in &other.entries {
            let Some(own) = self.entries.get_mut(name) else {
                self.entries.insert(name.clone(), sums.clone());
                continue;
            };
            if own.values.len() != sums.values.len() || own.counts.len() != sums.counts.len() {
                let what = format!("entry '{name}' has another size than before");
                return Err(Error::new(Code::Imatrix, path, what, "give importance matrices of one model"));
            }
            own.values.iter_mut().zip(&sums.values).for_each(|(own, more)| *own += more);
            own.counts.iter_mut().zip(&sums.counts).for_each(|(own, more)| *own = own.saturating_add(*more));
        }
        self.datasets.extend_from_slice(&other.datasets);
        Ok(())
    }

    /// Encodes the file that llama-imatrix writes for these sums.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let pairs = [
            ("general.type", Value::Str("imatrix".to_owned())),
            ("imatrix.datasets", Value::Array(Array::Str(self.datasets.clone()))),
            ("imatrix.chunk_count", Value::U32(self.chunk_count())),
            ("imatrix.chunk_size", Value::U32(self.chunk_size)),
        ];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value));
        let mut data = Vec::new();
        let mut tensors: Vec<(String, Vec<u64>, u64)> = Vec::new();
        let mut put = |name: String, values: Vec<f32>, matrices: usize| {
            let columns = values.len().checked_div(matrices).unwrap_or(0) as u64;
            // A tensor has no trailing dimension of 1.
            let dims = if matrices > 1 { vec![columns, matrices as u64] } else { vec![columns] };
            tensors.push((name, dims, data.len() as u64));
            values.iter().for_each(|value| data.extend(value.to_le_bytes()));
            let padded = align(data.len() as u64, ALIGNMENT).and_then(|len| usize::try_from(len).ok());
            data.resize(padded.unwrap_or(data.len()), 0);
        };
        for (name, sums) in &self.entries {
            put(format!("{name}.in_sum2"), sums.values.clone(), sums.counts.len());
            #[allow(clippy::cast_precision_loss, reason = "the format stores counts as f32")]
            let counts = sums.counts.iter().map(|count| *count as f32).collect();
            put(format!("{name}.counts"), counts, sums.counts.len());
        }
        let entries: Vec<TensorEntry<'_>> = tensors
            .iter()
            .map(|(name, dims, offset)| TensorEntry { name, dims, ggml_type: GgmlType::F32, offset: *offset })
            .collect();
        let mut file = encode_header(&pairs, &entries);
        file.extend(data);
        file
    }
}

fn from_gguf(path: &Path, chunk_size: u32) -> Result<ImatrixSums> {
    let gguf = Gguf::open(path)?;
    let mut entries = BTreeMap::new();
    for sums in &gguf.tensors {
        let Some(name) = sums.name.strip_suffix(".in_sum2") else { continue };
        let counts = gguf.tensors.iter().find(|t| t.name.strip_suffix(".counts") == Some(name));
        let Some(counts) = counts else { return Err(bad(path, format!("entry '{name}' has sums and no counts"))) };
        let (values, counts) = (floats(&gguf, sums)?, floats(&gguf, counts)?);
        if counts.is_empty() || !values.len().is_multiple_of(counts.len()) {
            return Err(bad(path, format!("entry '{name}' has {} sums for {} counts", values.len(), counts.len())));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole numbers")]
        let counts = counts.iter().map(|count| count.round().max(0.0) as u64).collect();
        entries.insert(name.to_owned(), Sums { values, counts });
    }
    let datasets = match gguf.get("imatrix.datasets") {
        Some(Value::Array(Array::Str(names))) => names.clone(),
        _ => return Err(bad(path, "is a GGUF file without imatrix.datasets".to_owned())),
    };
    Ok(ImatrixSums { datasets, chunk_size: gguf.u32("imatrix.chunk_size").unwrap_or(chunk_size), entries })
}

/// The sums were divided by the rows and multiplied by the chunks.
fn from_dat(dat: imatrix_dat::Dat, chunk_size: u32) -> ImatrixSums {
    #[allow(clippy::cast_precision_loss, reason = "llama-imatrix multiplies the same way")]
    let sums = |entry: imatrix_dat::DatEntry| {
        let rows = u64::from(entry.calls.unsigned_abs()).saturating_mul(chunk_size.into());
        (entry.name, Sums { values: entry.values.iter().map(|x| x * chunk_size as f32).collect(), counts: vec![rows] })
    };
    let entries = dat.entries.into_iter().map(sums).collect();
    ImatrixSums { datasets: dat.dataset.into_iter().collect(), chunk_size, entries }
}

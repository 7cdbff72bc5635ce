//! Plans the outputs before anything is written: type, offset and length of every tensor in every output. llama.cpp
//! chooses the types. `--dry-run` of the program stops after the plan; `convert/` writes it.

mod importance;
mod match_tensors;
mod planned_tensor;
mod split;

pub use planned_tensor::PlannedTensor;

use crate::checkpoint::Checkpoint;
use crate::error::{Code, Error, Result};
use crate::gguf::{ALIGNMENT, MAX_PARTS, TensorEntry, align, encode_header, part_path};
use crate::gguf_metadata;
use crate::llama_tensors::{self, ComputedTensor};
use crate::quantize_options::QuantizeOptions;
use importance::{importance, notes};
use llama_ext::{Ftype, GgmlType, TensorDesc, TypeRules};
use match_tensors::match_tensors;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An output file.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputPlan {
    /// The requested file type (mix).
    pub ftype: Ftype,
    /// Path of the output.
    pub path: PathBuf,
    /// Number (from 1) and count of the parts, if the output is split into several files.
    pub part: Option<(u64, u64)>,
    /// The range of [`Plan::tensors`] in this file.
    pub tensors: Range<usize>,
    /// Type of each of [`Plan::tensors`].
    pub types: Vec<GgmlType>,
    /// First byte of each tensor, from the start of the file; 0 for tensors of other parts.
    pub offsets: Vec<u64>,
    /// First byte of each of [`Plan::computed`]; empty unless the file is the first part.
    pub computed_offsets: Vec<u64>,
    /// Length of each tensor in bytes; 0 for tensors of other parts.
    pub sizes: Vec<u64>,
    /// Length of the whole file in bytes.
    pub len: u64,
    /// The encoded header and the computed tensors: all bytes before the first tensor of the checkpoint, with padding.
    pub(crate) header: Vec<u8>,
}

/// The plan of a conversion.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The tensors, in the order of the outputs.
    pub tensors: Vec<PlannedTensor>,
    /// Tensors that are computed from config.json. They are the first in each output.
    pub computed: Vec<ComputedTensor>,
    /// One output for each requested type; several for a type whose file is split.
    pub outputs: Vec<OutputPlan>,
    /// Parameters: weights in all tensors.
    pub n_params: u64,
    /// Bytes of weights to read from the source.
    pub source_bytes: u64,
    /// Names of the tensors of the checkpoint that are left out.
    pub skipped: Vec<String>,
    /// Warnings about the request, one sentence each.
    pub notes: Vec<String>,
    /// Rows of one attention head.
    pub(crate) head_dim: u32,
    /// Importance of each column, for each of [`Plan::tensors`]; `None` for a tensor without an entry in the imatrix.
    pub(crate) importance: Vec<Option<Vec<f32>>>,
}

impl Plan {
    /// Plans the conversion of `source` into one file for each (type, path).
    ///
    /// # Errors
    /// [`Error`] when the tensors do not match the configuration, a type cannot store their rows, the imatrix is of
    /// another model, or the paths contradict each other.
    pub fn new(source: &Checkpoint, outputs: &[(Ftype, PathBuf)], options: &QuantizeOptions) -> Result<Self> {
        check_request(source, outputs)?;
        let (tensors, skipped) = match_tensors(source)?;
        let weights = |t: &PlannedTensor| t.dims.iter().try_fold(1_u64, |n, d| n.checked_mul(*d));
        let sum = |of: &dyn Fn(&PlannedTensor) -> Option<u64>| {
            let sum = tensors.iter().try_fold(0_u64, |sum, t| sum.checked_add(of(t)?));
            sum.ok_or_else(|| too_large(&source.dir))
        };
        let (n_params, source_bytes) = (sum(&weights)?, sum(&|t| Some(t.source_bytes))?);
        // The metadata of a GGUF file is copied; a computed tensor is among its own.
        let computed =
            if source.copied_metadata.is_none() { llama_tensors::computed(&source.config) } else { Vec::new() };
        let n_params = computed.iter().fold(n_params, |n, t| n.saturating_add(t.weights.len() as u64));
        let importance = importance(source, &tensors, options)?;
        let files = |(ftype, path): &(Ftype, PathBuf)| {
            plan_output(source, (&computed, &tensors), options, *ftype, path, n_params)
        };
        let outputs: Vec<OutputPlan> = outputs.iter().map(files).collect::<Result<Vec<_>>>()?.concat();
        check_paths(source, &outputs)?;
        let total = outputs.iter().try_fold(0_u64, |sum, o| sum.checked_add(o.len));
        total.ok_or_else(|| too_large(&source.dir))?;
        let notes = notes(&tensors, options);
        let head_dim = source.config.head_dim;
        Ok(Self { tensors, computed, outputs, n_params, source_bytes, skipped, notes, head_dim, importance })
    }

    /// Returns the bytes of all tensors of the checkpoint in the file of type `ftype`, or in its parts.
    #[must_use]
    pub fn tensor_bytes(&self, ftype: Ftype) -> u64 {
        let of_type = self.outputs.iter().filter(|o| o.ftype == ftype);
        of_type.flat_map(|o| &o.sizes).fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// Returns the length of all outputs in bytes.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.outputs.iter().fold(0, |sum, o| sum.saturating_add(o.len))
    }
}

/// The error for outputs of more than 2^64 bytes.
fn too_large(path: &Path) -> Error {
    Error::new(Code::Request, path, "output size overflows 64 bits", "check config.json")
}

/// Checks that every output has a path of its own and none is an input.
fn check_request(source: &Checkpoint, outputs: &[(Ftype, PathBuf)]) -> Result<()> {
    if outputs.is_empty() {
        return Err(Error::new(Code::Request, &source.dir, "no type was requested", "name one, such as Q4_K_M"));
    }
    let mut seen = HashSet::new();
    if let Some((ftype, path)) = outputs.iter().find(|(_, path)| !seen.insert(path)) {
        let what = format!("{ftype} would overwrite another requested type");
        return Err(Error::new(Code::Request, path, what, "give a folder, or a file name with {type} in it"));
    }
    Ok(())
}

/// Checks that no file, parts included, is an input or another output.
fn check_paths(source: &Checkpoint, outputs: &[OutputPlan]) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let inputs: HashSet<PathBuf> = source.shards.iter().filter_map(|s| real(&s.path)).collect();
    let mut seen = HashSet::new();
    for OutputPlan { path, .. } in outputs {
        if real(path).is_some_and(|path| inputs.contains(&path)) {
            return Err(Error::new(Code::Request, path, "is one of the inputs", "give another name with -o"));
        }
        if !seen.insert(path) {
            let fix = "give a folder, or a file name with {type} in it";
            return Err(Error::new(Code::Request, path, "would overwrite another output", fix));
        }
    }
    Ok(())
}

/// Plans the file of one type, or its parts: types, offsets and headers.
fn plan_output(
    source: &Checkpoint,
    (computed, tensors): (&[ComputedTensor], &[PlannedTensor]),
    options: &QuantizeOptions,
    ftype: Ftype,
    path: &Path,
    n_params: u64,
) -> Result<Vec<OutputPlan>> {
    let types = choose_types(source, tensors, &options.rules(ftype)).map_err(|err| type_error(path, &err, options))?;
    let too_large = || too_large(path);
    let (mut sizes, mut padded) = (Vec::new(), Vec::new());
    for (t, ggml_type) in tensors.iter().zip(&types) {
        let row = ggml_type.row_bytes(usize::try_from(t.n_per_row()).unwrap_or(0)).map_err(|err| {
            Error::new(Code::Type, path, format!("tensor '{}': {err}", t.name), "choose another type for this model")
        })?;
        let size = (row as u64).checked_mul(t.n_rows()).ok_or_else(too_large)?;
        sizes.push(size);
        padded.push(align(size, ALIGNMENT).ok_or_else(too_large)?);
    }
    let (computed_entries, computed_bytes) = encode_computed(computed);
    let parts = match options.split_max_bytes {
        None => vec![0..tensors.len()],
        Some(max) => split::ranges(&padded, computed_bytes.len() as u64, max),
    };
    let count = parts.len() as u64;
    if count > MAX_PARTS {
        let what = format!("would be split into {count} parts, more than {MAX_PARTS}");
        return Err(Error::new(Code::Request, path, what, "give a larger --split-max-size"));
    }
    let mut metadata = gguf_metadata::pairs(source, ftype, n_params, options.imatrix.as_ref());
    let mut outputs = Vec::new();
    for (number, range) in parts.into_iter().enumerate() {
        let is_first = number == 0;
        let mut pairs = if is_first { std::mem::take(&mut metadata) } else { Vec::new() };
        if count > 1 {
            pairs.extend(split::keys(number, usize::try_from(count).unwrap_or(0), tensors.len() + computed.len()));
        }
        let (head, bytes): (&[TensorEntry<'_>], &[u8]) =
            if is_first { (&computed_entries, &computed_bytes) } else { (&[], &[]) };
        let mut entries = head.to_vec();
        let (mut relative, mut end) = (vec![0; tensors.len()], bytes.len() as u64);
        for i in range.clone() {
            let (t, offset) = (&tensors[i], end);
            entries.push(TensorEntry { name: &t.name, dims: &t.dims, ggml_type: types[i], offset });
            relative[i] = offset;
            end = end.checked_add(padded[i]).ok_or_else(too_large)?;
        }
        let mut header = encode_header(&pairs, &entries);
        let data = header.len() as u64;
        header.extend(bytes);
        let here = |i: usize| range.contains(&i);
        outputs.push(OutputPlan {
            ftype,
            path: if count > 1 { part_path(path, number as u64 + 1, count) } else { path.to_owned() },
            part: (count > 1).then_some((number as u64 + 1, count)),
            types: types.clone(),
            offsets: (0..tensors.len()).map(|i| if here(i) { data + relative[i] } else { 0 }).collect(),
            computed_offsets: head.iter().map(|entry| data + entry.offset).collect(),
            sizes: (0..tensors.len()).map(|i| if here(i) { sizes[i] } else { 0 }).collect(),
            len: data.checked_add(end).ok_or_else(too_large)?,
            header,
            tensors: range,
        });
    }
    Ok(outputs)
}

/// Returns the header entries of computed tensors, and their bytes, padded.
fn encode_computed(computed: &[ComputedTensor]) -> (Vec<TensorEntry<'_>>, Vec<u8>) {
    let (mut entries, mut bytes) = (Vec::new(), Vec::new());
    for t in computed {
        let (name, dims, offset) = (t.name, t.dims.as_slice(), bytes.len() as u64);
        entries.push(TensorEntry { name, dims, ggml_type: GgmlType::F32, offset });
        bytes.extend(t.weights.iter().flat_map(|weight| weight.to_le_bytes()));
        let padded = align(bytes.len() as u64, ALIGNMENT).and_then(|n| usize::try_from(n).ok());
        bytes.resize(padded.unwrap_or(bytes.len()), 0);
    }
    (entries, bytes)
}

/// Returns the types that llama.cpp chooses. The source types are those that its converter writes into a lossless file:
/// F32 for vectors, the checkpoint's type for matrices.
fn choose_types(
    source: &Checkpoint,
    tensors: &[PlannedTensor],
    rules: &TypeRules,
) -> std::result::Result<Vec<GgmlType>, llama_ext::Error> {
    let described: Vec<TensorDesc<'_>> = tensors
        .iter()
        .map(|t| {
            let vector = t.dims.len() < 2;
            TensorDesc {
                name: &t.name,
                n_per_row: t.n_per_row(),
                n_rows: if vector { 0 } else { t.n_rows() },
                source: if vector { GgmlType::F32 } else { source.tensors[t.source].dtype },
            }
        })
        .collect();
    llama_ext::tensor_types(&llama_tensors::model_shape(&source.config), rules, &described)
}

/// The error for a failure of llama.cpp's choice. With --tensor-type the cause is the pattern; without it, a bug.
fn type_error(path: &Path, err: &llama_ext::Error, options: &QuantizeOptions) -> Error {
    let (code, fix) = match options.overrides.is_empty() {
        true => (Code::Engine, "report this with the model's config.json"),
        false => (Code::Type, "check the patterns of --tensor-type"),
    };
    Error::new(code, path, err.to_string(), fix)
}

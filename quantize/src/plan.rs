//! Plans the outputs before anything is written: type, offset and length of every tensor in every output. llama.cpp
//! chooses the types. `--dry-run` of the program stops after the plan; `convert/` writes it.

use crate::checkpoint::{Checkpoint, SourceTensor, is_unused_tensor};
use crate::error::{Code, Error, Result};
use crate::gguf::{ALIGNMENT, TensorEntry, align, encode_header};
use crate::gguf_metadata;
use crate::llama_tensors::{self, Layout};
use crate::quantize_options::QuantizeOptions;
use llama_ext::{Ftype, GgmlType, TensorDesc, TypeRules};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A tensor of the outputs; only its type differs between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Name in the GGUF file.
    pub name: String,
    /// Dimensions in ggml's order: row length first.
    pub dims: Vec<u64>,
    /// Index into [`Checkpoint::tensors`].
    pub source: usize,
    /// Bytes in the checkpoint.
    pub source_bytes: u64,
    /// Row order.
    pub(crate) layout: Layout,
}

impl PlannedTensor {
    /// Returns the weights in a row.
    #[must_use]
    pub fn n_per_row(&self) -> u64 {
        self.dims.first().copied().unwrap_or(0)
    }

    /// Returns the number of rows; 1 for a vector.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }
}

/// An output file.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputPlan {
    /// The requested file type (mix).
    pub ftype: Ftype,
    /// Path of the output.
    pub path: PathBuf,
    /// Type of each of [`Plan::tensors`].
    pub types: Vec<GgmlType>,
    /// First byte of each tensor, from the start of the file.
    pub offsets: Vec<u64>,
    /// Length of each tensor in bytes.
    pub sizes: Vec<u64>,
    /// Length of the whole file in bytes.
    pub len: u64,
    /// All bytes before the tensor data.
    pub(crate) header: Vec<u8>,
}

/// The plan of a conversion.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The tensors, in the order of the outputs.
    pub tensors: Vec<PlannedTensor>,
    /// One output for each requested type.
    pub outputs: Vec<OutputPlan>,
    /// Parameters: weights in all tensors.
    pub n_params: u64,
    /// Bytes of weights to read.
    pub source_bytes: u64,
    /// Names of the tensors of the checkpoint that are left out.
    pub skipped: Vec<String>,
    /// Warnings about the request, one sentence each.
    pub notes: Vec<String>,
    /// Rows of one attention head.
    pub(crate) head_dim: u32,
    /// Importance of each column, for each of [`Plan::tensors`] with an entry in the imatrix.
    pub(crate) importance: Vec<Option<Vec<f32>>>,
}

impl Plan {
    /// Plans the conversion of `source` into one file for each (type, path).
    ///
    /// # Errors
    /// [`Error`] when the tensors do not match the configuration, or a type does not fit their rows.
    pub fn new(source: &Checkpoint, outputs: &[(Ftype, PathBuf)], options: &QuantizeOptions) -> Result<Self> {
        check_request(source, outputs)?;
        let (tensors, skipped) = match_tensors(source)?;
        let weights = |t: &PlannedTensor| t.dims.iter().try_fold(1_u64, |n, d| n.checked_mul(*d));
        let sum = |of: &dyn Fn(&PlannedTensor) -> Option<u64>| {
            let sum = tensors.iter().try_fold(0_u64, |sum, t| sum.checked_add(of(t)?));
            sum.ok_or_else(|| too_large(&source.dir))
        };
        let (n_params, source_bytes) = (sum(&weights)?, sum(&|t| Some(t.source_bytes))?);
        let importance = importance(source, &tensors, options)?;
        let outputs: Vec<OutputPlan> = outputs
            .iter()
            .map(|(ftype, path)| plan_output(source, &tensors, options, *ftype, path, n_params))
            .collect::<Result<_>>()?;
        let total = outputs.iter().try_fold(0_u64, |sum, o| sum.checked_add(o.len));
        total.ok_or_else(|| too_large(&source.dir))?;
        let notes = notes(&tensors, options);
        let head_dim = source.config.head_dim;
        Ok(Self { tensors, outputs, n_params, source_bytes, skipped, notes, head_dim, importance })
    }

    /// Returns the length of all outputs in bytes.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.outputs.iter().fold(0, |sum, o| sum.saturating_add(o.len))
    }
}

fn too_large(path: &Path) -> Error {
    Error::new(Code::Request, path, "output size overflows 64 bits", "check config.json")
}

fn check_request(source: &Checkpoint, outputs: &[(Ftype, PathBuf)]) -> Result<()> {
    if outputs.is_empty() {
        return Err(Error::new(Code::Request, &source.dir, "no type was requested", "name one, such as Q4_K_M"));
    }
    let mut seen = HashSet::new();
    if let Some((ftype, path)) = outputs.iter().find(|(_, path)| !seen.insert(path)) {
        let what = format!("{ftype} would overwrite another requested type");
        return Err(Error::new(Code::Request, path, what, "give a folder, or a file name with {type} in it"));
    }
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let inputs: HashSet<PathBuf> = source.shards.iter().filter_map(|s| real(&s.path)).collect();
    match outputs.iter().find(|(_, path)| real(path).is_some_and(|path| inputs.contains(&path))) {
        None => Ok(()),
        Some((_, path)) => Err(Error::new(Code::Request, path, "is one of the inputs", "give another name with -o")),
    }
}

/// Matches the expected tensors with the checkpoint's; missing, extra or misshaped tensors are errors. Also returns the
/// names of the tensors that are left out.
fn match_tensors(source: &Checkpoint) -> Result<(Vec<PlannedTensor>, Vec<String>)> {
    let mut have: HashMap<&str, usize> = HashMap::new();
    let (mut skipped, mut unknown) = (Vec::new(), Vec::new());
    for (i, t) in source.tensors.iter().enumerate() {
        if is_unused_tensor(&t.name) {
            skipped.push(t.name.clone());
        } else {
            have.insert(&t.name, i);
        }
    }
    let place = |t: &SourceTensor| source.shards.get(t.shard).map_or(source.dir.as_path(), |s| s.path.as_path());
    let mut planned = Vec::new();
    for mut known in llama_tensors::expected(&source.config) {
        if source.copied_metadata.is_some() {
            known.hf_name.clone_from(&known.name);
            known.layout = Layout::AsIs;
        }
        let Some(i) = have.remove(known.hf_name.as_str()) else {
            let what = format!("tensor '{}' is missing", known.hf_name);
            return Err(Error::new(Code::TensorMissing, &source.dir, what, missing_fix(source, &known.hf_name)));
        };
        let t = &source.tensors[i];
        if t.shape != known.shape {
            return Err(wrong_shape(source, place(t), t, &known.shape));
        }
        let dims = known.shape.iter().rev().copied().collect();
        planned.push(PlannedTensor { name: known.name, dims, source: i, source_bytes: t.bytes, layout: known.layout });
    }
    // a tied checkpoint may still have the output matrix, as a copy of the embedding
    let tied = source.config.tie_word_embeddings;
    for (name, i) in have {
        if tied && name == "lm_head.weight" { skipped.push(name.to_owned()) } else { unknown.push(i) }
    }
    skipped.extend(source.shards.iter().flat_map(|s| s.unused_tensors.iter().cloned()));
    unknown.sort_unstable();
    if let Some(t) = unknown.first().map(|i| &source.tensors[*i]) {
        let what = format!("unexpected tensor '{}' ({} in total)", t.name, unknown.len());
        return Err(Error::new(Code::TensorUnknown, place(t), what, "only plain LLaMA checkpoints are supported"));
    }
    Ok((planned, skipped))
}

/// Returns how to fix a missing tensor; it depends on the existing names.
fn missing_fix(source: &Checkpoint, name: &str) -> String {
    if name == "lm_head.weight" && source.tensors.iter().any(|t| t.name == "model.embed_tokens.weight") {
        return "the model was saved without its output matrix (as a LlamaModel): save it as LlamaForCausalLM"
            .to_owned();
    }
    let mut names = source.tensors.iter().map(|t| t.name.as_str());
    let first = names.next().unwrap_or_default();
    let common = names.fold(first, |common, name| {
        let n = common.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        common.get(..n).unwrap_or_default()
    });
    match common.rsplit_once('.') {
        Some((prefix, _)) if prefix != "model" && !source.tensors.is_empty() => {
            format!("all tensor names begin with '{prefix}.', unlike those of a LLaMA model: rename the tensors")
        }
        _ => "the checkpoint is incomplete, or config.json is of another model".to_owned(),
    }
}

/// The error for a tensor with another shape than config.json gives. For the embedding and the output matrix, the usual
/// cause is a resized vocabulary.
fn wrong_shape(source: &Checkpoint, place: &Path, t: &SourceTensor, wanted: &[u64]) -> Error {
    let by_vocabulary = ["model.embed_tokens.weight", "lm_head.weight"].contains(&t.name.as_str());
    let (what, fix) = match (t.shape.as_slice(), wanted) {
        ([rows, columns], [_, width]) if by_vocabulary && columns == width && source.copied_metadata.is_none() => (
            format!("tensor '{}' has {rows} rows, vocab_size in config.json is {}", t.name, source.config.vocab_size),
            "the vocabulary was resized: take config.json, tokenizer files and weights of one save",
        ),
        (shape, _) => (
            format!("tensor '{}' has shape {shape:?}, config.json gives {wanted:?}", t.name),
            "take config.json and weights of one repository",
        ),
    };
    Error::new(Code::TensorShape, place, what, fix)
}

/// Returns the importance of the columns of each tensor. As in llama-quantize, a tensor without an entry is quantized
/// without importance. An entry of another length, except for the embedding, or an imatrix without any matching entry
/// is of another model, which is an error.
fn importance(
    source: &Checkpoint,
    tensors: &[PlannedTensor],
    options: &QuantizeOptions,
) -> Result<Vec<Option<Vec<f32>>>> {
    let Some(imatrix) = &options.imatrix else { return Ok(vec![None; tensors.len()]) };
    let is_used = |t: &PlannedTensor| t.dims.len() > 1 && imatrix.entries.contains_key(&t.name);
    if !tensors.iter().any(is_used) {
        let first = imatrix.entries.keys().next().map_or("", String::as_str);
        let count = imatrix.entries.len();
        let what = format!("has {count} entries and none for a tensor of this model (the first is '{first}')");
        let fix = format!("give the importance matrix of {}", source.name());
        return Err(Error::new(Code::Imatrix, Path::new(&imatrix.file), what, fix));
    }
    tensors
        .iter()
        .map(|t| match imatrix.entries.get(&t.name).filter(|_| t.dims.len() > 1) {
            Some(weights) if weights.len() as u64 == t.n_per_row() => Ok(Some(weights.clone())),
            Some(weights) if t.name != "token_embd.weight" => {
                let what = format!("has {} weights for '{}', whose rows have {}", weights.len(), t.name, t.n_per_row());
                let fix = format!("give the importance matrix of {}", source.name());
                Err(Error::new(Code::Imatrix, Path::new(&imatrix.file), what, fix))
            }
            _ => Ok(None),
        })
        .collect()
}

/// Returns warnings about options without effect.
fn notes(tensors: &[PlannedTensor], options: &QuantizeOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let matrices: Vec<&str> = tensors.iter().filter(|t| t.dims.len() > 1).map(|t| t.name.as_str()).collect();
    if let Some(imatrix) = &options.imatrix {
        // llama-imatrix collects nothing for the embedding, and for the output only when asked to
        let expected = matrices.iter().filter(|name| !matches!(**name, "token_embd.weight" | "output.weight"));
        let without: Vec<&str> = expected.copied().filter(|name| !imatrix.entries.contains_key(*name)).collect();
        if !without.is_empty() {
            notes.push(format!(
                "{} has no entry for {} of {} matrices, which are quantized without: {}",
                imatrix.file,
                without.len(),
                matrices.len(),
                some(&without)
            ));
        }
        let keys = imatrix.entries.keys().map(String::as_str);
        let unused: Vec<&str> = keys.filter(|name| !matrices.contains(name)).collect();
        if !unused.is_empty() {
            let count = unused.len();
            notes.push(format!("{} has {count} entries for no matrix of this model: {}", imatrix.file, some(&unused)));
        }
    }
    for (pattern, ggml_type) in &options.overrides {
        // invalid patterns were errors when the types were chosen
        if llama_ext::pattern_finds(pattern, &matrices).is_ok_and(|found| found == 0) {
            notes.push(format!("the pattern '{pattern}' of type {ggml_type} finds no matrix, so it changes nothing"));
        }
    }
    notes
}

/// Joins the first names of a list.
fn some(names: &[&str]) -> String {
    let more = if names.len() > 3 { ", …" } else { "" };
    names.iter().take(3).copied().collect::<Vec<_>>().join(", ") + more
}

/// Plans one output: types, offsets and header.
fn plan_output(
    source: &Checkpoint,
    tensors: &[PlannedTensor],
    options: &QuantizeOptions,
    ftype: Ftype,
    path: &Path,
    n_params: u64,
) -> Result<OutputPlan> {
    let types = choose_types(source, tensors, &options.rules(ftype)).map_err(|err| type_error(path, &err, options))?;
    let too_large = || too_large(path);
    let (mut relative, mut sizes, mut end) = (Vec::new(), Vec::new(), 0_u64);
    for (t, ggml_type) in tensors.iter().zip(&types) {
        let row = ggml_type.row_bytes(usize::try_from(t.n_per_row()).unwrap_or(0)).map_err(|err| {
            Error::new(Code::Type, path, format!("tensor '{}': {err}", t.name), "choose another type for this model")
        })?;
        let size = (row as u64).checked_mul(t.n_rows()).ok_or_else(too_large)?;
        relative.push(end);
        sizes.push(size);
        end = end.checked_add(size).and_then(|n| align(n, ALIGNMENT)).ok_or_else(too_large)?;
    }
    let entries: Vec<TensorEntry<'_>> = tensors
        .iter()
        .zip(types.iter().zip(&relative))
        .map(|(t, (ggml_type, offset))| TensorEntry {
            name: &t.name,
            dims: &t.dims,
            ggml_type: *ggml_type,
            offset: *offset,
        })
        .collect();
    let header = encode_header(&gguf_metadata::pairs(source, ftype, n_params, options.imatrix.as_ref()), &entries);
    let data = header.len() as u64;
    let len = data.checked_add(end).ok_or_else(too_large)?;
    let offsets = relative.iter().map(|offset| data + offset).collect();
    Ok(OutputPlan { ftype, path: path.to_owned(), types, offsets, sizes, len, header })
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

/// The error for a failure of llama.cpp's choice. With --tensor-type the pattern is to blame; otherwise it is a bug.
fn type_error(path: &Path, err: &llama_ext::Error, options: &QuantizeOptions) -> Error {
    let (code, fix) = match options.overrides.is_empty() {
        true => (Code::Engine, "report this with the model's config.json"),
        false => (Code::Type, "check the patterns of --tensor-type"),
    };
    Error::new(code, path, err.to_string(), fix)
}

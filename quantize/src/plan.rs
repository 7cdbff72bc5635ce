//! What will be written, to the byte, before anything is: every tensor's type and offset in every output. The writer
//! checks itself against the plan; `--dry-run` stops after it.

use crate::checkpoint::{Checkpoint, SourceTensor, is_unused_tensor};
use crate::error::{Code, Error, Result};
use crate::gguf::{ALIGNMENT, TensorEntry, align, encode_header};
use crate::gguf_metadata;
use crate::llama_tensors::{self, Layout};
use crate::quantize_options::QuantizeOptions;
use llama_ext::{Ftype, GgmlType, TensorDesc, TypeRules};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// One tensor of the outputs: the same in each but for its type.
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
    pub(crate) layout: Layout,
}

impl PlannedTensor {
    /// Weights in a row.
    #[must_use]
    pub fn n_per_row(&self) -> u64 {
        self.dims.first().copied().unwrap_or(0)
    }

    /// Rows; 1 for a vector.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }
}

/// One output file.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputPlan {
    /// The mix asked for.
    pub ftype: Ftype,
    /// Where it goes.
    pub path: PathBuf,
    /// Type of each of [`Plan::tensors`].
    pub types: Vec<GgmlType>,
    /// First byte of each tensor, from the start of the file.
    pub offsets: Vec<u64>,
    /// Length of each tensor in bytes.
    pub sizes: Vec<u64>,
    /// Length of the whole file in bytes.
    pub len: u64,
    pub(crate) header: Vec<u8>,
}

/// Everything a conversion will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The tensors, in the order of the outputs.
    pub tensors: Vec<PlannedTensor>,
    /// One for each type asked for.
    pub outputs: Vec<OutputPlan>,
    /// Weights in all tensors.
    pub n_params: u64,
    /// Bytes that will be read.
    pub source_bytes: u64,
    /// Tensors of the checkpoint that are not copied_metadata over, by name.
    pub skipped: Vec<String>,
    /// What a user should know of the request but need not mend, one sentence each.
    pub notes: Vec<String>,
    /// Rows of one attention head.
    pub(crate) head_dim: u32,
    /// Importance of each column, for each of [`Plan::tensors`] that has it.
    pub(crate) importance: Vec<Option<Vec<f32>>>,
}

impl Plan {
    /// Plans `source` into one file for each (type, path), as `recipe` says.
    ///
    /// # Errors
    /// [`Error`] when the tensors are not those of the configuration, or a type does not fit their rows.
    pub fn new(source: &Checkpoint, outputs: &[(Ftype, PathBuf)], recipe: &QuantizeOptions) -> Result<Self> {
        check_request(source, outputs)?;
        let (tensors, skipped) = match_tensors(source)?;
        let weights = |t: &PlannedTensor| t.dims.iter().try_fold(1_u64, |n, d| n.checked_mul(*d));
        let sum = |of: &dyn Fn(&PlannedTensor) -> Option<u64>| {
            let sum = tensors.iter().try_fold(0_u64, |sum, t| sum.checked_add(of(t)?));
            sum.ok_or_else(|| too_large(&source.dir))
        };
        let (n_params, source_bytes) = (sum(&weights)?, sum(&|t| Some(t.source_bytes))?);
        let importance = importance(source, &tensors, recipe)?;
        let outputs: Vec<OutputPlan> = outputs
            .iter()
            .map(|(ftype, path)| plan_output(source, &tensors, recipe, *ftype, path, n_params))
            .collect::<Result<_>>()?;
        let total = outputs.iter().try_fold(0_u64, |sum, o| sum.checked_add(o.len));
        total.ok_or_else(|| too_large(&source.dir))?;
        let notes = notes(&tensors, recipe);
        let head_dim = source.config.head_dim;
        Ok(Self { tensors, outputs, n_params, source_bytes, skipped, notes, head_dim, importance })
    }

    /// Bytes of all outputs together.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.outputs.iter().fold(0, |sum, o| sum.saturating_add(o.len))
    }
}

fn too_large(path: &Path) -> Error {
    Error::new(Code::Request, path, "would be larger than any file can be", "check config.json")
}

fn check_request(source: &Checkpoint, outputs: &[(Ftype, PathBuf)]) -> Result<()> {
    if outputs.is_empty() {
        return Err(Error::new(Code::Request, &source.dir, "no type was asked for", "name one, such as Q4_K_M"));
    }
    let mut seen = HashSet::new();
    if let Some((ftype, path)) = outputs.iter().find(|(_, path)| !seen.insert(path)) {
        let what = format!("{ftype} would be written over another of the types asked for");
        return Err(Error::new(Code::Request, path, what, "give a folder, or a file name with {type} in it"));
    }
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let inputs: HashSet<PathBuf> = source.shards.iter().filter_map(|s| real(&s.path)).collect();
    match outputs.iter().find(|(_, path)| real(path).is_some_and(|path| inputs.contains(&path))) {
        None => Ok(()),
        Some((_, path)) => Err(Error::new(Code::Request, path, "is one of the inputs", "give another name with -o")),
    }
}

/// The table of names against what the checkpoint has: nothing missing, nothing over, every shape as configured.
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
    for mut known in llama_tensors::table(&source.config) {
        if source.copied_metadata.is_some() {
            known.source.clone_from(&known.name);
            known.layout = Layout::AsIs;
        }
        let Some(i) = have.remove(known.source.as_str()) else {
            let what = format!("tensor '{}' is missing", known.source);
            return Err(Error::new(Code::TensorMissing, &source.dir, what, missing_fix(source, &known.source)));
        };
        let t = &source.tensors[i];
        if t.shape != known.shape {
            return Err(wrong_shape(source, place(t), t, &known.shape));
        }
        let dims = known.shape.iter().rev().copied().collect();
        planned.push(PlannedTensor { name: known.name, dims, source: i, source_bytes: t.bytes, layout: known.layout });
    }
    // a tied checkpoint may still carry the output matrix; it is the embedding again
    let tied = source.config.tie_word_embeddings;
    for (name, i) in have {
        if tied && name == "lm_head.weight" { skipped.push(name.to_owned()) } else { unknown.push(i) }
    }
    skipped.extend(source.shards.iter().flat_map(|s| s.unused_tensors.iter().cloned()));
    unknown.sort_unstable();
    if let Some(t) = unknown.first().map(|i| &source.tensors[*i]) {
        let what = format!("tensor '{}' is none that a LLaMA model has ({} such)", t.name, unknown.len());
        return Err(Error::new(Code::TensorUnknown, place(t), what, "only plain LLaMA checkpoints are converted"));
    }
    Ok((planned, skipped))
}

/// What to do about a tensor that is missing, by the names that are there.
fn missing_fix(source: &Checkpoint, name: &str) -> String {
    if name == "lm_head.weight" && source.tensors.iter().any(|t| t.name == "model.embed_tokens.weight") {
        return "the model was saved without the part that writes text (as a LlamaModel): save it as LlamaForCausalLM"
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
            format!("every name here begins with '{prefix}.', which no LLaMA model has: rename the tensors")
        }
        _ => "the checkpoint is not complete, or config.json is of another model".to_owned(),
    }
}

/// A tensor of another shape than config.json gives. The usual cause for the vocabulary's two is one that was resized.
fn wrong_shape(source: &Checkpoint, place: &Path, t: &SourceTensor, wanted: &[u64]) -> Error {
    let by_vocabulary = ["model.embed_tokens.weight", "lm_head.weight"].contains(&t.name.as_str());
    let (what, fix) = match (t.shape.as_slice(), wanted) {
        ([rows, columns], [_, width]) if by_vocabulary && columns == width && source.copied_metadata.is_none() => (
            format!("tensor '{}' has {rows} rows, vocab_size in config.json is {}", t.name, source.config.vocab_size),
            "the vocabulary was resized: take config.json, tokenizer files and weights of one save",
        ),
        (shape, _) => (
            format!("tensor '{}' has shape {shape:?}, config.json makes it {wanted:?}", t.name),
            "take config.json and weights of one repository",
        ),
    };
    Error::new(Code::TensorShape, place, what, fix)
}

/// The imatrix's weights for each tensor. A tensor without an entry is quantized without, as in llama-quantize; an entry
/// of another length means another model, except for the embedding, which is looked up and not multiplied. So does a file
/// of which no entry is of a tensor.
fn importance(
    source: &Checkpoint,
    tensors: &[PlannedTensor],
    recipe: &QuantizeOptions,
) -> Result<Vec<Option<Vec<f32>>>> {
    let Some(imatrix) = &recipe.imatrix else { return Ok(vec![None; tensors.len()]) };
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

/// What of the recipe has no effect.
fn notes(tensors: &[PlannedTensor], recipe: &QuantizeOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let matrices: Vec<&str> = tensors.iter().filter(|t| t.dims.len() > 1).map(|t| t.name.as_str()).collect();
    if let Some(imatrix) = &recipe.imatrix {
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
    for (pattern, ggml_type) in &recipe.overrides {
        // one that is no pattern was refused when the types were chosen
        if llama_ext::pattern_finds(pattern, &matrices).is_ok_and(|found| found == 0) {
            notes.push(format!("the pattern '{pattern}' of type {ggml_type} finds no matrix, so it changes nothing"));
        }
    }
    notes
}

/// The first names of a list.
fn some(names: &[&str]) -> String {
    let more = if names.len() > 3 { ", …" } else { "" };
    names.iter().take(3).copied().collect::<Vec<_>>().join(", ") + more
}

fn plan_output(
    source: &Checkpoint,
    tensors: &[PlannedTensor],
    recipe: &QuantizeOptions,
    ftype: Ftype,
    path: &Path,
    n_params: u64,
) -> Result<OutputPlan> {
    let types = choose_types(source, tensors, &recipe.rules(ftype)).map_err(|err| refused(path, &err, recipe))?;
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
    let header = encode_header(&gguf_metadata::pairs(source, ftype, n_params, recipe.imatrix.as_ref()), &entries);
    let data = header.len() as u64;
    let len = data.checked_add(end).ok_or_else(too_large)?;
    let offsets = relative.iter().map(|offset| data + offset).collect();
    Ok(OutputPlan { ftype, path: path.to_owned(), types, offsets, sizes, len, header })
}

/// llama.cpp is asked, with the types that its own converter would have left in a lossless file: vectors F32, as its
/// kernels want them, and matrices as the checkpoint has them.
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

/// The only thing a user can have wrong here is a pattern; without one, it is us.
fn refused(path: &Path, err: &llama_ext::Error, recipe: &QuantizeOptions) -> Error {
    let (code, fix) = match recipe.overrides.is_empty() {
        true => (Code::Engine, "report this with the model's config.json"),
        false => (Code::Type, "check the patterns of --tensor-type"),
    };
    Error::new(code, path, err.to_string(), fix)
}

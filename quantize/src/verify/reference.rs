//! [`Reference`]: the checkpoint or GGUF file that a GGUF file is compared with.

use super::file_spans::WeightSpan;
use crate::checkpoint::Checkpoint;
use crate::convert::f32_rows::RowReader;
use crate::error::{Code, Error, Result};
use crate::gguf::{Gguf, TensorInfo, Value};
use crate::gguf_metadata;
use crate::integers::{to_u64, to_usize};
use crate::llama_tensors::ComputedTensor;
use crate::plan::{Plan, PlannedTensor};
use crate::platform::read_exact_at;
use crate::quantize_options::QuantizeOptions;
use llama_ext::{Ftype, GgmlType};
use std::collections::HashMap;
use std::path::PathBuf;

/// The source of the file that is verified.
#[derive(Debug)]
pub struct Reference(Kind);

#[derive(Debug)]
enum Kind {
    /// A checkpoint, with its tensors by GGUF name.
    Checkpoint { source: Box<Checkpoint>, tensors: HashMap<String, PlannedTensor>, computed: Vec<ComputedTensor> },
    /// Another GGUF file, usually lossless.
    Gguf { gguf: Box<Gguf>, tensors: HashMap<String, TensorInfo> },
}

impl Reference {
    /// Uses the checkpoint `source` as the reference.
    ///
    /// # Errors
    /// [`Error`] when its tensors do not match its configuration.
    pub fn checkpoint(source: Checkpoint) -> Result<Self> {
        let nowhere = [(Ftype::F32, PathBuf::from("unused.gguf"))];
        let plan = Plan::new(&source, &nowhere, &QuantizeOptions::default())?;
        let tensors = plan.tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
        Ok(Self(Kind::Checkpoint { source: Box::new(source), tensors, computed: plan.computed }))
    }

    /// Uses the GGUF file `gguf` as the reference.
    #[must_use]
    pub fn gguf(gguf: Gguf) -> Self {
        let tensors = gguf.tensors.iter().map(|t| (t.name.clone(), t.clone())).collect();
        Self(Kind::Gguf { gguf: Box::new(gguf), tensors })
    }

    /// Returns the dimensions of a tensor in ggml's order; `None` when there is no such tensor.
    pub(super) fn dims(&self, name: &str) -> Option<&[u64]> {
        match &self.0 {
            Kind::Checkpoint { tensors, computed, .. } => {
                let computed = || computed.iter().find(|t| t.name == name).map(|t| t.dims.as_slice());
                tensors.get(name).map(|t| t.dims.as_slice()).or_else(computed)
            }
            Kind::Gguf { tensors, .. } => tensors.get(name).map(|t| t.dims.as_slice()),
        }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        match &self.0 {
            Kind::Checkpoint { tensors, computed, .. } => {
                tensors.keys().map(String::as_str).chain(computed.iter().map(|t| t.name)).collect()
            }
            Kind::Gguf { gguf, .. } => gguf.tensors.iter().map(|t| t.name.as_str()).collect(),
        }
    }

    /// Returns the key-value pairs of a file that is made from the reference.
    pub(super) fn pairs(&self) -> Vec<(String, Value)> {
        match &self.0 {
            Kind::Checkpoint { source, .. } => gguf_metadata::pairs(source, Ftype::F32, 0, None),
            Kind::Gguf { gguf, .. } => gguf.pairs.clone(),
        }
    }

    /// Returns the stored type of a tensor; F32 for a checkpoint, whose weights are exact.
    pub(super) fn stored_type(&self, name: &str) -> GgmlType {
        match &self.0 {
            Kind::Checkpoint { .. } => GgmlType::F32,
            Kind::Gguf { tensors, .. } => tensors.get(name).map_or(GgmlType::F32, |t| t.ggml_type),
        }
    }

    /// Returns the number of rows that must be read together: the rotary rows of a checkpoint are interleaved within a
    /// head.
    pub(super) fn unit(&self) -> u64 {
        match &self.0 {
            Kind::Checkpoint { source, .. } => u64::from(source.config.head_dim),
            Kind::Gguf { .. } => 1,
        }
    }
}

/// Reads the weights `span` of tensor `t` from the reference.
pub(super) fn read_reference<'a>(
    reference: &Reference,
    t: &TensorInfo,
    span: WeightSpan,
    bytes: &mut Vec<u8>,
    other: &'a mut Vec<f32>,
    reader: &'a mut RowReader,
) -> Result<&'a [f32]> {
    match &reference.0 {
        Kind::Checkpoint { source, tensors, computed } => {
            if let Some(t) = computed.iter().find(|known| known.name == t.name) {
                let end = span.first.saturating_add(span.count);
                let weights = t.weights.get(to_usize(span.first)..to_usize(end)).unwrap_or_default();
                other.clear();
                other.extend_from_slice(weights);
                return Ok(other);
            }
            let Some(planned) = tensors.get(&t.name) else { return Ok(&[]) };
            let columns = t.n_per_row();
            let shard = source.tensors.get(planned.source).and_then(|from| source.shards.get(from.shard));
            let Some(shard) = shard else { return Ok(&[]) };
            let rows = (span.first.checked_div(columns).unwrap_or(0), span.count.checked_div(columns).unwrap_or(0));
            let read = |buf: &mut [u8], offset| shard.bytes.read_exact_at(buf, offset);
            Ok(reader.read(source, &read, planned, rows)?.weights)
        }
        Kind::Gguf { gguf, tensors } => {
            let Some(theirs) = tensors.get(&t.name) else { return Ok(&[]) };
            let (block, block_bytes) =
                (to_u64(theirs.ggml_type.block_size()).max(1), to_u64(theirs.ggml_type.block_bytes()));
            let at = |weights: u64| weights.checked_div(block).unwrap_or(0).saturating_mul(block_bytes);
            bytes.resize(to_usize(at(span.count)), 0);
            read_exact_at(&gguf.file, bytes, theirs.offset.saturating_add(at(span.first)))
                .map_err(|err| Error::io(&gguf.path, &format!("read tensor '{}'", t.name), &err))?;
            other.resize(to_usize(span.count), 0.0);
            llama_ext::to_f32(theirs.ggml_type, bytes, other)
                .map_err(|err| Error::new(Code::Engine, &gguf.path, format!("{}: {err}", t.name), "report this"))?;
            Ok(other)
        }
    }
}

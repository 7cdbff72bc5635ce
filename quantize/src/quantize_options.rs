//! [`QuantizeOptions`]: llama-quantize's options that influence the types and values of the outputs, and their
//! division into files.

use crate::imatrix::Imatrix;
use llama_ext::{Ftype, GgmlType, TypeRules};

/// Options for all outputs. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizeOptions {
    /// Whether every matrix gets the base type of the mix (`--pure`).
    pub pure: bool,
    /// Type of `output.weight` (`--output-tensor-type`); `None`: chosen by llama.cpp.
    pub output: Option<GgmlType>,
    /// Type of `token_embd.weight` (`--token-embedding-type`); `None`: chosen by llama.cpp.
    pub token_embedding: Option<GgmlType>,
    /// Pairs of pattern and type (`--tensor-type`). A pattern is an ECMAScript regular expression that matches a part
    /// of the GGUF name; the first match decides. As in llama-quantize, they apply only to quantized mixes.
    pub overrides: Vec<(String, GgmlType)>,
    /// The importance matrix (`--imatrix`).
    pub imatrix: Option<Imatrix>,
    /// Maximum bytes of tensors in one file (`--split-max-size`). A larger output is split into parts.
    pub split_max_bytes: Option<u64>,
}

impl QuantizeOptions {
    /// Returns the rules for llama.cpp's choice of types.
    pub(crate) fn rules(&self, ftype: Ftype) -> TypeRules {
        TypeRules {
            ftype,
            pure: self.pure,
            has_imatrix: self.imatrix.is_some(),
            output: self.output,
            token_embedding: self.token_embedding,
            overrides: self.overrides.clone(),
        }
    }
}

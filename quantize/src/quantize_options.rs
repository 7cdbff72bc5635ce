//! [`QuantizeOptions`]: llama-quantize's options that influence the types and values of the outputs.

use crate::imatrix::Imatrix;
use llama_ext::{Ftype, GgmlType, TypeRules};

/// Options for all outputs. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizeOptions {
    /// Stores every matrix in the base type of the mix (`--pure`).
    pub pure: bool,
    /// Overrides the type of `output.weight`.
    pub output: Option<GgmlType>,
    /// Overrides the type of `token_embd.weight`.
    pub token_embedding: Option<GgmlType>,
    /// Pattern (an ECMAScript regular expression that is searched in the GGUF name) and type; the first match decides.
    /// As in llama-quantize, they apply to quantized mixes only.
    pub overrides: Vec<(String, GgmlType)>,
    /// The importance matrix.
    pub imatrix: Option<Imatrix>,
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

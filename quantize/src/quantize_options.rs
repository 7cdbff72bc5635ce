//! What is asked of a conversion besides the types: llama-quantize's options, with its meanings.

use crate::imatrix::Imatrix;
use llama_ext::{Ftype, GgmlType, TypeRules};

/// Options that hold for every output. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizeOptions {
    /// Every matrix in the mix's main type (`--pure`).
    pub pure: bool,
    /// Type of `output.weight`, whatever the mix says.
    pub output: Option<GgmlType>,
    /// Type of `token_embd.weight`, whatever the mix says.
    pub token_embedding: Option<GgmlType>,
    /// Pattern (an ECMAScript regular expression searched in the GGUF name) and type; the first that matches decides.
    /// As in llama-quantize they hold in quantized mixes only.
    pub overrides: Vec<(String, GgmlType)>,
    /// How much each column matters.
    pub imatrix: Option<Imatrix>,
}

impl QuantizeOptions {
    /// These options as llama.cpp's rules take them.
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

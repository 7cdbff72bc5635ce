//! What a call across the border can answer besides success.

/// A refused or failed call into llama.cpp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A slice does not have the length that rows × row length needs.
    #[error("{what} has {got} elements, expected {expected}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Elements or bytes given.
        got: usize,
        /// Elements or bytes needed.
        expected: usize,
    },
    /// The row length is not a multiple of the type's block size.
    #[error("rows of {n_per_row} weights cannot be {type_name}: its blocks have {block} weights")]
    Block {
        /// Row length in weights.
        n_per_row: usize,
        /// The type asked for.
        type_name: &'static str,
        /// Weights a block.
        block: usize,
    },
    /// The type cannot be made, or not without importance weights.
    #[error("{type_name}: {why}")]
    Type {
        /// The type asked for.
        type_name: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// llama.cpp refused; its own words.
    #[error("llama.cpp: {0}")]
    Native(String),
}

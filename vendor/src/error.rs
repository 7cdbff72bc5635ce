//! Errors from calls into llama.cpp.

/// A call into llama.cpp that failed, or that was rejected before it was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A slice does not have the length that rows × row length needs.
    #[error("{what} has {got} elements, expected {expected}")]
    Length {
        /// The argument.
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
        /// ggml's name of the type.
        type_name: &'static str,
        /// Weights in one block.
        block: usize,
    },
    /// The type cannot be converted, or not without an importance matrix.
    #[error("{type_name}: {why}")]
    Type {
        /// ggml's name of the type.
        type_name: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// llama.cpp failed. The text is llama.cpp's error message, if it has one.
    #[error("llama.cpp: {0}")]
    Native(String),
}

impl Error {
    /// Returns [`Error::Length`] for the argument `what` unless `got` is `expected`.
    pub(crate) fn check_length(what: &'static str, got: usize, expected: usize) -> Result<(), Self> {
        if got == expected { Ok(()) } else { Err(Self::Length { what, got, expected }) }
    }
}

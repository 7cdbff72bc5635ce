//! Storage types of tensors: ids, names, block sizes. The ids are ggml's `enum ggml_type`, which GGUF files use too.
//! Sizes come from the linked library and are never copied. Mixes such as `Q4_K_M` are in `ftype.rs`.

use crate::Error;
use llama_cpp_sys_2 as sys;
use std::ffi::CStr;
use std::fmt;
use std::str::FromStr;

/// The storage type of a tensor. The discriminant is the id in a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are ggml's")]
#[allow(non_camel_case_types, reason = "the names are ggml's")]
pub enum GgmlType {
    F32 = sys::GGML_TYPE_F32,
    F16 = sys::GGML_TYPE_F16,
    Q4_0 = sys::GGML_TYPE_Q4_0,
    Q4_1 = sys::GGML_TYPE_Q4_1,
    Q5_0 = sys::GGML_TYPE_Q5_0,
    Q5_1 = sys::GGML_TYPE_Q5_1,
    Q8_0 = sys::GGML_TYPE_Q8_0,
    Q2_K = sys::GGML_TYPE_Q2_K,
    Q3_K = sys::GGML_TYPE_Q3_K,
    Q4_K = sys::GGML_TYPE_Q4_K,
    Q5_K = sys::GGML_TYPE_Q5_K,
    Q6_K = sys::GGML_TYPE_Q6_K,
    IQ4_NL = sys::GGML_TYPE_IQ4_NL,
    IQ4_XS = sys::GGML_TYPE_IQ4_XS,
    BF16 = sys::GGML_TYPE_BF16,
    Q8_1 = sys::GGML_TYPE_Q8_1,
    Q8_K = sys::GGML_TYPE_Q8_K,
    IQ2_XXS = sys::GGML_TYPE_IQ2_XXS,
    IQ2_XS = sys::GGML_TYPE_IQ2_XS,
    IQ2_S = sys::GGML_TYPE_IQ2_S,
    IQ3_XXS = sys::GGML_TYPE_IQ3_XXS,
    IQ3_S = sys::GGML_TYPE_IQ3_S,
    IQ1_S = sys::GGML_TYPE_IQ1_S,
    IQ1_M = sys::GGML_TYPE_IQ1_M,
    TQ1_0 = sys::GGML_TYPE_TQ1_0,
    TQ2_0 = sys::GGML_TYPE_TQ2_0,
    MXFP4 = sys::GGML_TYPE_MXFP4,
    NVFP4 = sys::GGML_TYPE_NVFP4,
    Q1_0 = sys::GGML_TYPE_Q1_0,
    Q2_0 = sys::GGML_TYPE_Q2_0,
    I8 = sys::GGML_TYPE_I8,
    I16 = sys::GGML_TYPE_I16,
    I32 = sys::GGML_TYPE_I32,
    I64 = sys::GGML_TYPE_I64,
    F64 = sys::GGML_TYPE_F64,
}

impl GgmlType {
    /// Every type this workspace writes.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6_K,
        Self::Q5_K,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4_K,
        Self::Q4_1,
        Self::Q4_0,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::Q3_K,
        Self::Q2_K,
    ];

    /// The other types of the linked ggml, which this workspace reads and never writes.
    pub const READ_ONLY: [Self; 20] = [
        Self::Q8_1,
        Self::Q8_K,
        Self::IQ2_XXS,
        Self::IQ2_XS,
        Self::IQ2_S,
        Self::IQ3_XXS,
        Self::IQ3_S,
        Self::IQ1_S,
        Self::IQ1_M,
        Self::TQ1_0,
        Self::TQ2_0,
        Self::MXFP4,
        Self::NVFP4,
        Self::Q1_0,
        Self::Q2_0,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F64,
    ];

    /// Returns every type of the linked ggml: [`Self::ALL`] and [`Self::READ_ONLY`].
    pub fn known() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::READ_ONLY)
    }

    /// Returns the type with this id in a GGUF file, if ggml knows it.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::known().find(|t| t.id() == id)
    }

    /// Returns whether this workspace writes the type: whether it is one of [`Self::ALL`].
    #[must_use]
    pub fn is_written(self) -> bool {
        Self::ALL.contains(&self)
    }

    /// Returns whether weights of a model can have the type: false for integers, f64, and the two types that ggml uses
    /// only during a product.
    #[must_use]
    pub const fn is_weights(self) -> bool {
        !matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64 | Self::F64 | Self::Q8_1 | Self::Q8_K)
    }

    /// Returns the id in a GGUF file.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Returns ggml's name: `q4_K`, `f16`, …
    #[must_use]
    pub fn name(self) -> &'static str {
        // SAFETY: the id is one of ggml's own constants, so the pointer is to a static NUL-terminated ASCII string.
        unsafe { CStr::from_ptr(sys::ggml_type_name(self.id())) }.to_str().unwrap_or("?")
    }

    /// Returns the weights in one block (1, 32 or 256). The length of a row must be a multiple.
    #[must_use]
    pub fn block_size(self) -> usize {
        // SAFETY: a table look-up by an id that is in the table.
        let n = unsafe { sys::ggml_blck_size(self.id()) };
        usize::try_from(n).unwrap_or(1)
    }

    /// Returns the bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        // SAFETY: a table look-up by an id that is in the table.
        unsafe { sys::ggml_type_size(self.id()) }
    }

    /// Returns the bytes of a row of `n_per_row` weights.
    ///
    /// # Errors
    /// [`Error::Block`] when `n_per_row` is not a multiple of the block size, [`Error::Length`] when the size
    /// overflows.
    pub fn row_bytes(self, n_per_row: usize) -> Result<usize, Error> {
        let block = self.block_size();
        if n_per_row == 0 || !n_per_row.is_multiple_of(block) {
            return Err(Error::Block { n_per_row, type_name: self.name(), block });
        }
        (n_per_row / block).checked_mul(self.block_bytes()).ok_or(Error::Length {
            what: "row",
            got: n_per_row,
            expected: usize::MAX,
        })
    }
}

impl FromStr for GgmlType {
    type Err = UnknownType;

    /// Parses ggml's name in any case.
    fn from_str(name: &str) -> Result<Self, UnknownType> {
        let found = Self::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownType { name: name.to_owned(), known: Self::ALL.map(Self::name).join(" ") })
    }
}

/// A name that is not a known type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown type '{name}'; known: {known}")]
pub struct UnknownType {
    /// The name given.
    pub name: String,
    /// The known names, separated by spaces.
    pub known: String,
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Copies a C string to a Rust string; empty for NULL.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string that nothing writes during the call.
pub(crate) unsafe fn copy_c_str(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::GgmlType;

    #[test]
    fn sizes_match_ggml_common_h() {
        // bits per weight × block, from the block structs' comments in ggml-common.h
        for (t, block, bytes) in [
            (GgmlType::F32, 1, 4),
            (GgmlType::BF16, 1, 2),
            (GgmlType::Q8_0, 32, 34),
            (GgmlType::Q4_0, 32, 18),
            (GgmlType::Q4_K, 256, 144),
            (GgmlType::Q5_K, 256, 176),
            (GgmlType::Q6_K, 256, 210),
            (GgmlType::IQ4_XS, 256, 136),
        ] {
            assert_eq!((t.block_size(), t.block_bytes()), (block, bytes), "{t}");
        }
    }

    /// The block of a type that ggml removed has 0 weights. A type that a new pin adds must be added here.
    #[test]
    fn knows_every_type_of_the_linked_ggml() {
        for id in 0..llama_cpp_sys_2::GGML_TYPE_COUNT {
            // SAFETY: a table look-up by an id that is in the table.
            let exists = unsafe { llama_cpp_sys_2::ggml_blck_size(id) } > 0;
            assert_eq!(GgmlType::from_id(id).is_some(), exists, "type {id}");
        }
        assert!(GgmlType::known().all(|t| t.block_size() > 0 && t.block_bytes() > 0));
    }

    #[test]
    fn ids_round_trip_and_rows_must_be_whole_blocks() {
        for t in GgmlType::known() {
            assert_eq!(GgmlType::from_id(t.id()), Some(t));
        }
        assert_eq!(GgmlType::from_id(9999), None);
        assert_eq!(GgmlType::Q4_K.row_bytes(512).ok(), Some(288));
        assert!(GgmlType::Q4_K.row_bytes(100).is_err());
        assert!(GgmlType::Q4_K.row_bytes(0).is_err());
    }
}

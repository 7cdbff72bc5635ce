//! Quantization types as a user names them, such as `Q4_K_M`: mixes of storage types (llama.cpp's `llama_ftype`). The
//! storage types are in `ggml_type.rs`.

use crate::ggml_type::UnknownType;
use llama_cpp_sys_2 as sys;
use std::fmt;
use std::str::FromStr;

/// A quantization mix. The discriminant is `general.file_type` in a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are llama.cpp's")]
#[allow(non_camel_case_types, reason = "the names are llama.cpp's")]
pub enum Ftype {
    F32 = sys::LLAMA_FTYPE_ALL_F32,
    F16 = sys::LLAMA_FTYPE_MOSTLY_F16,
    BF16 = sys::LLAMA_FTYPE_MOSTLY_BF16,
    Q8_0 = sys::LLAMA_FTYPE_MOSTLY_Q8_0,
    Q6_K = sys::LLAMA_FTYPE_MOSTLY_Q6_K,
    Q5_K_M = sys::LLAMA_FTYPE_MOSTLY_Q5_K_M,
    Q5_K_S = sys::LLAMA_FTYPE_MOSTLY_Q5_K_S,
    Q5_1 = sys::LLAMA_FTYPE_MOSTLY_Q5_1,
    Q5_0 = sys::LLAMA_FTYPE_MOSTLY_Q5_0,
    Q4_K_M = sys::LLAMA_FTYPE_MOSTLY_Q4_K_M,
    Q4_K_S = sys::LLAMA_FTYPE_MOSTLY_Q4_K_S,
    Q4_1 = sys::LLAMA_FTYPE_MOSTLY_Q4_1,
    Q4_0 = sys::LLAMA_FTYPE_MOSTLY_Q4_0,
    IQ4_NL = sys::LLAMA_FTYPE_MOSTLY_IQ4_NL,
    IQ4_XS = sys::LLAMA_FTYPE_MOSTLY_IQ4_XS,
    Q3_K_L = sys::LLAMA_FTYPE_MOSTLY_Q3_K_L,
    Q3_K_M = sys::LLAMA_FTYPE_MOSTLY_Q3_K_M,
    Q3_K_S = sys::LLAMA_FTYPE_MOSTLY_Q3_K_S,
    Q2_K = sys::LLAMA_FTYPE_MOSTLY_Q2_K,
}

impl Ftype {
    /// Every supported mix with its name, from the most to the fewest bits.
    pub const ALL: [(Self, &'static str); 19] = [
        (Self::F32, "F32"),
        (Self::F16, "F16"),
        (Self::BF16, "BF16"),
        (Self::Q8_0, "Q8_0"),
        (Self::Q6_K, "Q6_K"),
        (Self::Q5_K_M, "Q5_K_M"),
        (Self::Q5_K_S, "Q5_K_S"),
        (Self::Q5_1, "Q5_1"),
        (Self::Q5_0, "Q5_0"),
        (Self::Q4_K_M, "Q4_K_M"),
        (Self::Q4_K_S, "Q4_K_S"),
        (Self::Q4_1, "Q4_1"),
        (Self::Q4_0, "Q4_0"),
        (Self::IQ4_NL, "IQ4_NL"),
        (Self::IQ4_XS, "IQ4_XS"),
        (Self::Q3_K_L, "Q3_K_L"),
        (Self::Q3_K_M, "Q3_K_M"),
        (Self::Q3_K_S, "Q3_K_S"),
        (Self::Q2_K, "Q2_K"),
    ];

    /// Returns the number for `general.file_type`.
    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// Returns the mix with this `general.file_type`, if it is one of [`Self::ALL`].
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().map(|(t, _)| t).find(|t| t.id() == id)
    }

    /// Returns the default variant of a name without a variant (`Q4_K` is `Q4_K_M`), like llama-quantize.
    /// llama-quantize's numbers are not accepted: its 8 is `Q5_0`, but a user who types 8 means eight bits.
    #[must_use]
    pub fn from_alias(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "Q5_K" => Some(Self::Q5_K_M),
            "Q4_K" => Some(Self::Q4_K_M),
            "Q3_K" => Some(Self::Q3_K_M),
            _ => None,
        }
    }

    /// Returns the name that users type and file names contain.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(t, _)| *t == self).map_or("?", |(_, name)| name)
    }
}

impl fmt::Display for Ftype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Ftype {
    type Err = UnknownType;

    fn from_str(name: &str) -> Result<Self, UnknownType> {
        let found = Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        let known = || Self::ALL.map(|(_, name)| name).join(" ");
        found.map(|(t, _)| *t).ok_or_else(|| UnknownType { name: name.to_owned(), known: known() })
    }
}

#[cfg(test)]
mod tests {
    use super::Ftype;

    #[test]
    fn parses_names_in_any_case_and_lists_the_known_ones_in_the_error() {
        assert_eq!("q4_k_m".parse(), Ok(Ftype::Q4_K_M));
        assert_eq!(Ftype::Q4_K_M.to_string(), "Q4_K_M");
        assert_eq!(Ftype::from_id(15), Some(Ftype::Q4_K_M));
        let aliases = ["q4_k", "Q5_K", "Q3_K", "Q2_K", "8", ""].map(|text| Ftype::from_alias(text).map(Ftype::name));
        assert_eq!(aliases, [Some("Q4_K_M"), Some("Q5_K_M"), Some("Q3_K_M"), None, None, None]);
        let message = "Q9_X".parse::<Ftype>().map_err(|e| e.to_string());
        assert!(message.is_err_and(|text| text.contains("Q9_X") && text.contains("IQ4_XS")));
    }
}

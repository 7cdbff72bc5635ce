//! A metadata value with its exact type: tools compare types, so a u32 is not an i32.

use std::fmt;

/// One value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the format's")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array; its elements have one type. The types that LLaMA models use keep their own vectors, because a vocabulary
/// has tens of thousands of elements.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the format's")]
pub enum Array {
    I32(Vec<i32>),
    F32(Vec<f32>),
    Str(Vec<String>),
    /// Any other element type, with its id in the format.
    Other(u32, Vec<Value>),
}

impl Value {
    /// The type's id in the format.
    #[must_use]
    pub const fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Str(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// The type's name in the format's documentation, lower case.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Self::Array(array) => format!("{}[{}]", type_name(array.element_type()), array.len()),
            other => type_name(other.type_id()).to_owned(),
        }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The number, if this is a whole one that is not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::U64(n) => Some(n),
            Self::I8(n) => n.try_into().ok(),
            Self::I16(n) => n.try_into().ok(),
            Self::I32(n) => n.try_into().ok(),
            Self::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }
}

impl Array {
    /// The elements' type id.
    #[must_use]
    pub const fn element_type(&self) -> u32 {
        match self {
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Str(_) => 8,
            Self::Other(id, _) => *id,
        }
    }

    /// Elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Str(v) => v.len(),
            Self::Other(_, v) => v.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

const fn type_name(id: u32) -> &'static str {
    match id {
        0 => "uint8",
        1 => "int8",
        2 => "uint16",
        3 => "int16",
        4 => "uint32",
        5 => "int32",
        6 => "float32",
        7 => "bool",
        8 => "string",
        9 => "array",
        10 => "uint64",
        11 => "int64",
        12 => "float64",
        _ => "?",
    }
}

/// The value as a person reads it; arrays show their first elements.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(n) => n.fmt(f),
            Self::I8(n) => n.fmt(f),
            Self::U16(n) => n.fmt(f),
            Self::I16(n) => n.fmt(f),
            Self::U32(n) => n.fmt(f),
            Self::I32(n) => n.fmt(f),
            Self::U64(n) => n.fmt(f),
            Self::I64(n) => n.fmt(f),
            Self::F32(n) => n.fmt(f),
            Self::F64(n) => n.fmt(f),
            Self::Bool(b) => b.fmt(f),
            Self::Str(text) => write!(f, "{text:?}"),
            Self::Array(array) => array.fmt(f),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        let first: Vec<String> = match self {
            Self::I32(v) => v.iter().take(SHOWN).map(ToString::to_string).collect(),
            Self::F32(v) => v.iter().take(SHOWN).map(ToString::to_string).collect(),
            Self::Str(v) => v.iter().take(SHOWN).map(|s| format!("{s:?}")).collect(),
            Self::Other(_, v) => v.iter().take(SHOWN).map(ToString::to_string).collect(),
        };
        let more = if self.len() > SHOWN { ", …" } else { "" };
        write!(f, "[{}{more}]", first.join(", "))
    }
}

//! Metadata values with their exact types: a u32 and an i32 of the same number are different values, because tools
//! compare types.

use std::fmt;

/// A metadata value.
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

/// An array of elements of one type. The large arrays of a vocabulary have vectors of their own.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the format's")]
pub enum Array {
    I32(Vec<i32>),
    F32(Vec<f32>),
    Str(Vec<String>),
    /// Numbers and booleans of any other type.
    Other(Raw),
}

/// The elements of an array in the encoding of the file, so that the array needs no more memory than in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    element: u32,
    width: usize,
    bytes: Vec<u8>,
}

impl Raw {
    /// Wraps little-endian elements of the type with the id `element`. `None` when the type has no fixed width, `bytes`
    /// has incomplete elements, or a boolean is neither 0 nor 1.
    #[must_use]
    pub fn new(element: u32, bytes: Vec<u8>) -> Option<Self> {
        let width = width(element)?;
        let whole = bytes.len().is_multiple_of(width);
        let sound = element != BOOL || bytes.iter().all(|byte| *byte < 2);
        (whole && sound).then_some(Self { element, width, bytes })
    }

    /// Returns the decoded elements.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        self.bytes.chunks_exact(self.width).filter_map(|bytes| number(self.element, bytes))
    }

    /// Returns the elements as they are encoded in the file, little-endian.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

const BOOL: u32 = 7;

/// Returns the bytes of a value of this type; `None` for strings, arrays and unknown types.
pub(super) const fn width(id: u32) -> Option<usize> {
    match id {
        0 | 1 | BOOL => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Decodes a value of a type with fixed width; `None` when `bytes` has another length, or a boolean is neither 0 nor 1.
pub(super) fn number(id: u32, bytes: &[u8]) -> Option<Value> {
    Some(match id {
        0 => Value::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
        1 => Value::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
        2 => Value::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
        3 => Value::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
        4 => Value::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
        5 => Value::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
        6 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
        BOOL => match bytes {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return None,
        },
        10 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
        11 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
        12 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    })
}

impl Value {
    /// Returns the type's id in the format.
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

    /// Returns the type's name in the format's documentation, in lower case.
    #[must_use]
    pub fn type_name(&self) -> String {
        match self {
            Self::Array(array) => format!("{}[{}]", type_name(array.element_type()), array.len()),
            other => type_name(other.type_id()).to_owned(),
        }
    }

    /// Returns the text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// Returns the number of a non-negative integer.
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
    /// Returns the type id of the elements.
    #[must_use]
    pub const fn element_type(&self) -> u32 {
        match self {
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Str(_) => 8,
            Self::Other(raw) => raw.element,
        }
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Str(v) => v.len(),
            Self::Other(raw) => raw.bytes.len().checked_div(raw.width).unwrap_or(0),
        }
    }

    /// Whether the array is empty.
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

/// Formats the value for people to read; only the first elements of an array.
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
            Self::Other(raw) => raw.values().take(SHOWN).map(|value| value.to_string()).collect(),
        };
        let more = if self.len() > SHOWN { ", …" } else { "" };
        write!(f, "[{}{more}]", first.join(", "))
    }
}

//! Encodes GGUF headers: everything before the tensor data.

use super::layout::{ALIGNMENT, MAGIC, VERSION, align};
use super::value::{Array, Value};
use crate::integers::to_u64;
use llama_ext::GgmlType;

/// A tensor in the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Dimensions in ggml's order: row length first.
    pub dims: &'a [u64],
    /// Stored type.
    pub ggml_type: GgmlType,
    /// First byte, from the start of the tensor data; a multiple of [`ALIGNMENT`].
    pub offset: u64,
}

/// Returns the header of a GGUF file (version 3, little-endian) with these key-value pairs and tensors, in this order,
/// padded with zeros to a multiple of [`ALIGNMENT`].
#[must_use]
pub fn encode_header(pairs: &[(String, Value)], tensors: &[TensorEntry<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(to_u64(tensors.len()).to_le_bytes());
    out.extend(to_u64(pairs.len()).to_le_bytes());
    for (key, value) in pairs {
        put_str(&mut out, key);
        out.extend(value.type_id().to_le_bytes());
        put_value(&mut out, value);
    }
    for t in tensors {
        put_str(&mut out, t.name);
        out.extend(u32::try_from(t.dims.len()).unwrap_or(u32::MAX).to_le_bytes());
        t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
        out.extend(t.ggml_type.id().to_le_bytes());
        out.extend(t.offset.to_le_bytes());
    }
    let padded = align(to_u64(out.len()), ALIGNMENT).and_then(|n| usize::try_from(n).ok());
    out.resize(padded.unwrap_or(out.len()), 0);
    out
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.extend(to_u64(text.len()).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => out.extend(n.to_le_bytes()),
        Value::I8(n) => out.extend(n.to_le_bytes()),
        Value::U16(n) => out.extend(n.to_le_bytes()),
        Value::I16(n) => out.extend(n.to_le_bytes()),
        Value::U32(n) => out.extend(n.to_le_bytes()),
        Value::I32(n) => out.extend(n.to_le_bytes()),
        Value::U64(n) => out.extend(n.to_le_bytes()),
        Value::I64(n) => out.extend(n.to_le_bytes()),
        Value::F32(n) => out.extend(n.to_le_bytes()),
        Value::F64(n) => out.extend(n.to_le_bytes()),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::Str(text) => put_str(out, text),
        Value::Array(array) => {
            out.extend(array.element_type().to_le_bytes());
            out.extend(to_u64(array.len()).to_le_bytes());
            match array {
                Array::I32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
                Array::F32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
                Array::Str(v) => v.iter().for_each(|text| put_str(out, text)),
                Array::Other(raw) => out.extend(raw.bytes()),
            }
        }
    }
}

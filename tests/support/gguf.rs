//! Writes GGUF files with any content, without the program's writer, so that the two implementations check each other.

use std::fs;
use std::path::Path;
use tulu_quantize::gguf::{Array, Gguf, Value};

/// A tensor with its bytes. The type is the number in the file; it can be unknown to ggml.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) bytes: Vec<u8>,
}

/// The content of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct GgufFile {
    pub(crate) pairs: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
}

impl GgufFile {
    /// Reads an existing file.
    pub(crate) fn read(path: &Path) -> Self {
        let (bytes, gguf) = (fs::read(path).unwrap(), Gguf::open(path).unwrap());
        let of = |t: &tulu_quantize::gguf::TensorInfo| Tensor {
            name: t.name.clone(),
            dims: t.dims.clone(),
            kind: t.ggml_type.id(),
            bytes: bytes[t.offset as usize..(t.offset + t.bytes) as usize].to_vec(),
        };
        Self { tensors: gguf.tensors.iter().map(of).collect(), pairs: gguf.pairs }
    }

    /// Sets a key.
    pub(crate) fn put(&mut self, key: &str, value: Value) -> &mut Self {
        self.pairs.retain(|(k, _)| k != key);
        self.pairs.push((key.to_owned(), value));
        self
    }

    /// The tensor with this name.
    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    /// The bytes of the file, aligned to `general.alignment`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let find = |key: &str| self.pairs.iter().find(|(k, _)| k == key).and_then(|(_, v)| v.as_u64());
        let alignment = find("general.alignment").unwrap_or(32).max(1) as usize;
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            text(&mut out, key);
            out.extend(value.type_id().to_le_bytes());
            put(&mut out, value);
        }
        let mut at = 0_usize;
        for t in &self.tensors {
            text(&mut out, &t.name);
            out.extend((t.dims.len() as u32).to_le_bytes());
            t.dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(t.kind.to_le_bytes());
            out.extend((at as u64).to_le_bytes());
            at = (at + t.bytes.len()).next_multiple_of(alignment);
        }
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment), 0);
            out.extend(&t.bytes);
        }
        out.resize(out.len().next_multiple_of(alignment), 0);
        out
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.encode()).unwrap();
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put(out: &mut Vec<u8>, value: &Value) {
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
        Value::Str(s) => text(out, s),
        Value::Array(array) => {
            out.extend(array.element_type().to_le_bytes());
            out.extend((array.len() as u64).to_le_bytes());
            match array {
                Array::I32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
                Array::F32(v) => v.iter().for_each(|n| out.extend(n.to_le_bytes())),
                Array::Str(v) => v.iter().for_each(|s| text(out, s)),
                Array::Other(raw) => out.extend(raw.bytes()),
            }
        }
    }
}

//! Prints a GGUF file as one JSON object. It is streamed to stdout, because an array may have a hundred million
//! elements.

use super::facts::{kv_bytes_per_token, shape, type_name};
use crate::engine::{Forecast, ModelDims};
use crate::error::{Exit, Failure};
use crate::model::eval_record::EvalRecord;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::json;
use std::io::{self, BufWriter, Write as _};
use tulu_quantize::gguf::{Array, Gguf, TensorInfo, Value};

/// Prints the object to stdout.
pub(super) fn print(gguf: &Gguf, forecast: Option<&Forecast>) -> Result<Exit, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer(&mut out, &File(gguf, forecast)).map_err(io::Error::from);
    crate::stdout::done(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

struct File<'a>(&'a Gguf, Option<&'a Forecast>);

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let gguf = self.0;
        let shape = shape(gguf).ok().flatten();
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("path", &gguf.path.to_string_lossy())?;
        map.serialize_entry("bytes", &gguf.len)?;
        map.serialize_entry("type", type_name(gguf))?;
        map.serialize_entry("n_params", &gguf.n_params())?;
        map.serialize_entry("kv_bytes_per_token", &shape.as_ref().map(kv_bytes_per_token))?;
        map.serialize_entry("memory_bytes", &shape.as_ref().map(ModelDims::memory_with_defaults))?;
        map.serialize_entry("memory", &self.1.map(memory))?;
        map.serialize_entry("part", &gguf.part().ok().flatten())?;
        map.serialize_entry("eval", &EvalRecord::of(gguf).map(|record| record.json()))?;
        map.serialize_entry("metadata", &Pairs(&gguf.pairs))?;
        map.serialize_entry("tensors", &Tensors(&gguf.tensors))?;
        map.end()
    }
}

/// Returns the memory of a run on this machine.
fn memory(forecast: &Forecast) -> serde_json::Value {
    let device = |(one, layers, bytes): &(crate::engine::Usable, u32, u64)| {
        json!({"name": one.device.name, "hardware": one.device.description, "layers": layers, "bytes": bytes,
               "may_use": one.budget})
    };
    let devices: Vec<_> = forecast.devices.iter().map(device).collect();
    json!({"n_ctx": forecast.n_ctx, "kv_tokens": forecast.n_cells, "layers": forecast.n_layers,
           "main_bytes": forecast.main_bytes, "devices": devices})
}

struct Pairs<'a>(&'a [(String, Value)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, One(value))))
    }
}

struct One<'a>(&'a Value);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(n) => n.serialize(to),
            Value::I8(n) => n.serialize(to),
            Value::U16(n) => n.serialize(to),
            Value::I16(n) => n.serialize(to),
            Value::U32(n) => n.serialize(to),
            Value::I32(n) => n.serialize(to),
            Value::U64(n) => n.serialize(to),
            Value::I64(n) => n.serialize(to),
            Value::F32(n) => n.serialize(to),
            Value::F64(n) => n.serialize(to),
            Value::Bool(b) => b.serialize(to),
            Value::Str(text) => text.serialize(to),
            Value::Array(Array::I32(v)) => v.serialize(to),
            Value::Array(Array::F32(v)) => v.serialize(to),
            Value::Array(Array::Str(v)) => v.serialize(to),
            Value::Array(Array::Other(raw)) => to.collect_seq(raw.values().map(Owned)),
        }
    }
}

struct Owned(Value);

impl Serialize for Owned {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        One(&self.0).serialize(to)
    }
}

struct Tensors<'a>(&'a [TensorInfo]);

impl Serialize for Tensors<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(
            |t| json!({"name": t.name, "dims": t.dims, "type": t.ggml_type.name(), "offset": t.offset, "bytes": t.bytes}),
        ))
    }
}

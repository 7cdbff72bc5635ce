//! Grammars for structured output, as text in GBNF (llama.cpp's notation, grammars/README.md there). `gbnf` checks a
//! grammar before llama.cpp reads it; `schema` and its helpers compile a JSON Schema. The engine applies grammars.

mod gbnf;
mod gbnf_items;
mod gbnf_references;
mod numbers;
mod object;
mod one_of;
mod pattern;
mod rules;
mod schema;
mod strings;

pub(crate) use gbnf::check;
pub(crate) use schema::{any_object, compile};

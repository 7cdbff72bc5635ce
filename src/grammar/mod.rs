//! Grammars for structured output, as text in GBNF (llama.cpp's notation, grammars/README.md there). `gbnf` checks a
//! grammar before llama.cpp reads it; `schema` and its helpers compile a JSON Schema, and `tool_calls` answers that
//! call functions. The engine applies grammars.

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
mod tool_calls;

pub(crate) use gbnf::check;
pub(crate) use schema::{any_object, compile};
pub(crate) use tool_calls::{
    BETWEEN_CALLS, CALL_AFTER_ARGUMENTS, CALL_BEFORE_ARGUMENTS, CALL_BEFORE_NAME, CALL_MARKER, Otherwise, tool_calls,
};

//! From what a user types to a GGUF file: a file, a checkpoint folder (converted into the cache), or nothing at all (the
//! demonstration model that the binary carries). Loading the file is the engine's.

pub(crate) mod cache;
mod demo;
pub(crate) mod hub;
pub(crate) mod source;

pub(crate) use source::resolve;

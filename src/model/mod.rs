//! From what a user types to a GGUF file: a file, a checkpoint folder or a model of the Hub (converted into the cache), or
//! nothing at all (the demonstration model that the binary carries). Loading the file is the engine's.

pub(crate) mod arrive;
pub(crate) mod cache;
pub(crate) mod card;
pub(crate) mod demo;
pub(crate) mod fetch;
mod fingerprint;
pub(crate) mod hub;
pub(crate) mod made;
pub(crate) mod named;
pub(crate) mod offer;
pub(crate) mod registry;
pub(crate) mod source;

pub(crate) use fingerprint::{FullHash, fingerprint};
pub(crate) use source::{resolve, trained_window};

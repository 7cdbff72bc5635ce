//! From what a user types to a GGUF file: a file, a checkpoint folder or a model of the Hub (converted into the cache), or
//! nothing at all (the demonstration model that the binary carries). Loading the file is the engine's.

mod address;
pub(crate) mod arrive;
pub(crate) mod cache;
pub(crate) mod card;
pub(crate) mod demo;
pub(crate) mod fetch;
mod fetch_options;
mod fingerprint;
pub(crate) mod hub;
pub(crate) mod kept;
mod lock;
pub(crate) mod made;
pub(crate) mod named;
pub(crate) mod offer;
pub(crate) mod registry;
mod sound;
pub(crate) mod source;
mod stopped;
pub(crate) mod there;

pub(crate) use fetch_options::FetchOptions;
pub(crate) use fingerprint::{FullHash, fingerprint};
pub(crate) use source::{resolve, trained_window};
pub(crate) use stopped::stopped;

//! From what a user types to a GGUF file: a file, a checkpoint folder or a model of the Hub (converted into the cache), or
//! nothing at all (the demonstration model that the binary carries). Loading the file is the engine's.

pub(crate) mod app_dirs;
pub(crate) mod bundled;
mod cached_gguf;
pub(crate) mod card;
pub(crate) mod confirm;
pub(crate) mod converted_cache;
pub(crate) mod fetch_and_convert;
mod fetch_options;
mod fingerprint;
pub(crate) mod hub;
mod hub_url;
pub(crate) mod if_exists;
mod lock;
pub(crate) mod model_ref;
pub(crate) mod registry;
pub(crate) mod resolve;
mod stopped;
pub(crate) mod stored_models;
pub(crate) mod streaming;

pub(crate) use fetch_options::FetchOptions;
pub(crate) use fingerprint::{FullHash, fingerprint};
pub(crate) use resolve::{resolve, trained_context};
pub(crate) use stopped::stopped;

//! Turns a MODEL argument into a GGUF file. A GGUF file is used as it is, also one of the Hub. A checkpoint folder, a
//! checkpoint of the Hub and the bundled demonstration model are converted into the cache. Loading the file is in `engine/`.

pub(crate) mod app_dirs;
pub(crate) mod bundled;
mod cached_gguf;
pub(crate) mod card;
pub(crate) mod confirm;
pub(crate) mod converted_cache;
pub(crate) mod eval_record;
pub(crate) mod fetch_and_convert;
mod fetch_options;
mod fingerprint;
pub(crate) mod hub;
mod hub_url;
pub(crate) mod if_exists;
mod lock;
pub(crate) mod model_ref;
pub(crate) mod published_gguf;
pub(crate) mod ready_gguf;
pub(crate) mod registry;
pub(crate) mod resolve;
mod stopped;
pub(crate) mod stored_models;
pub(crate) mod streaming;

pub(crate) use fetch_options::FetchOptions;
pub(crate) use fingerprint::{FullHash, fingerprint};
pub(crate) use resolve::{resolve, resolve_as, trained_context};
pub(crate) use stopped::stopped;

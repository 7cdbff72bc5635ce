//! The Hugging Face Hub: what a repository holds, ranges of its files, and whole files in the cache that is shared with
//! `huggingface_hub`. Names of models are `registry/`'s, conversion is `fetch.rs`'s.
//!
//! The transfer is our own, on `ureq` (blocking, rustls). hf-hub 1.0.0 (its download.rs, 550 to 576) asks for the file,
//! truncates `blobs/ETAG.incomplete` and renames it: a cut download begins anew, the page of an error becomes the blob, and
//! no length or sha256 is compared; it does not read `HF_HUB_OFFLINE`, a transfer cannot be cancelled, and it brings 148
//! crates along (tokio, hyper, Xet). hf-hub 0.5.0 names a file before it is hashed and appends a 200 where a range was
//! asked for. What is needed of the Hub is two requests: a listing, and a range of a file.
//!
//! What holds here, whatever a server does:
//! - a byte counts only under the status, range and length that were asked for, and a file appears in the cache only when
//!   its sha256 (git's sha1 for small files) is the listed one;
//! - the token goes to the endpoint and nowhere else, redirects are followed by hand, and nothing prints it;
//! - what has arrived stays: a cut, Ctrl-C or a kill costs what had not been recorded, not the file.

mod cache_layout;
mod client;
mod download;
mod env;
mod handle;
mod hash;
mod http_error;
mod listing;
mod lock;
mod model_info;
mod partial;
mod pull;
mod range_fetch;
mod redirect_cache;
pub(crate) mod refs;
mod repo_id;
mod retry;
mod secrets;
mod url;

pub(crate) use cache_layout::{CacheDir, missing, replace};
pub(crate) use env::{Settings, endpoint_place};
pub(crate) use handle::Hub;
pub(crate) use hash::FileHash;
pub(crate) use listing::{Listing, Needed};
pub(crate) use partial::NO_LINKS;
pub(crate) use pull::room;
pub(crate) use repo_id::{RepoId, is_hex};
pub(crate) use url::decode;

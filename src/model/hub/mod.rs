//! The Hugging Face Hub: listings of repositories, ranges of their files, and whole files in the cache that
//! `huggingface_hub` shares. Model names are in `registry/` and `model_ref.rs`, conversion is in `streaming.rs`.
//!
//! The cache layout comes from hf-hub 0.5 (`cache_layout.rs`). The transfer is our own, on `ureq` (blocking, rustls),
//! because hf-hub does not give the guarantees below:
//! - 1.0.0 (`download.rs`, lines 550 to 576) neither resumes nor checks. It ignores the status of the response,
//!   truncates `blobs/ETAG.incomplete` and renames it: an interrupted download restarts, and an error page becomes the
//!   blob. It compares neither length nor sha256, does not read `HF_HUB_OFFLINE`, cannot cancel a transfer, and depends
//!   on 148 crates (tokio, hyper, Xet).
//! - 0.5.0 renames a file before it is hashed, and appends the whole file when a server ignores the requested range.
//!
//! Guarantees, whatever a server does:
//! - bytes are accepted only with the expected status, range and length, and a file appears in the cache only when its
//!   sha256 (git's sha1 for small files) is the listed one;
//! - the token is sent to the endpoint and nowhere else, redirects are followed here, and no message contains the
//!   token;
//! - downloads resume: a lost connection, Ctrl-C or a kill costs only the bytes that were not yet recorded.

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

pub(crate) use cache_layout::{HubCache, missing_files};
pub(crate) use env::{HubSettings, endpoint_address};
pub(crate) use handle::Hub;
pub(crate) use hash::FileHash;
pub(crate) use listing::{Listing, NeededFiles, RemoteFile};
pub(crate) use pull::check_disk_space;
pub(crate) use repo_id::{RepoId, is_hex};
pub(crate) use url::percent_decode;

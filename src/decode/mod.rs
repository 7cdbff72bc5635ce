//! The decode loop (continuous batching): requests in, text out, several at once. Chat and batch share it; chat is a
//! batch of one.
//!
//! A request is the whole token list of a conversation. It is computed in the slot with the longest matching prefix, or
//! shares the prefix of a busy slot; only the rest is computed. So callers do not track the changes since the last
//! turn. Several guessed tokens of an answer can be checked in one pass (`draft/`). `kv_file` and
//! `kv_snapshot` save slots to files and load them. Not here: tokenizing messages (`prompt/`) and using the text (`chat/`, `batch/`).

mod active_request;
mod admission;
mod choose;
mod decoder;
mod draft;
mod kv_cells;
pub(crate) mod kv_file;
mod kv_snapshot;
mod logprobs;
mod request;
mod slot;
mod stop_strings;
mod token_budget;
mod utf8;

pub(crate) use decoder::Decoder;
pub(crate) use draft::{DraftCounts, DraftSource, Drafts, Forced};
pub(crate) use kv_snapshot::KeptSlot;
pub(crate) use logprobs::{Likely, TokenLogprob};
pub(crate) use request::{Answer, Event, FinishReason, Mode, Request, RequestId, Usage};
pub(crate) use stop_strings::turn_markers;
#[cfg(test)]
pub(crate) use utf8::Utf8;

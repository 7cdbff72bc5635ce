//! `convert`, `verify` and `inspect`: folders, files, streams.

mod folder;
mod inspect;
mod refusals;
mod streaming;
mod verify;

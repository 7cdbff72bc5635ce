//! `convert`, `verify` and `inspect`: folders, files, streams.

mod broken_checkpoints;
mod checks;
mod folder;
mod inspect;
mod requests;
mod streaming;
mod system;
mod tulu3;
mod verify;

//! The Hub, as a server on loopback: downloads, names, the cache, messages, model cards.

mod card;
mod converted_cache;
mod download;
mod faults;
mod messages;
mod models;
mod names;
mod ready_gguf;
mod secrets;

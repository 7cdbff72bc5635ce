//! The Hub, as a server on loopback: downloads, names, the cache, messages, model cards.

mod cache;
mod card;
mod download;
mod messages;
mod names;

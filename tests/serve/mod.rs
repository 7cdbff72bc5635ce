//! `serve`: the real server on loopback.

mod access;
mod api;
mod cache;
mod clients;
mod lifecycle;
mod limits;
mod load;
mod ollama;
mod page;
mod refusals;
mod stream;
mod structured;
mod tools;

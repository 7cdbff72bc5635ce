//! `serve`: the real server on loopback.

mod access;
mod api;
mod lifecycle;
mod limits;
mod ollama;
mod refusals;
mod stream;
mod tools;

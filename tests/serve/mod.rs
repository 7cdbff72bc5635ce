//! `serve`: the real server on loopback.

mod access;
mod api;
mod browser;
mod cache;
mod clients;
mod documents;
mod lifecycle;
mod limits;
mod load;
mod ollama;
mod operations;
mod page;
mod refusals;
mod saved_prompts;
mod stream;
mod structured;
mod tool_calls;
mod tools;

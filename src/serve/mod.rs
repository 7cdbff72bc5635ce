//! `serve`: the decode loop behind OpenAI's API.
//!
//! Three threads. `http` accepts connections (`stall_guard`, `lingering_close`), checks requests (`access`, `cors`), reads bodies (`body`) and
//! writes responses (`routes`, `completions`, `completion_stream`, `event_body`, `model_info`, `text_tools`, `metrics`, `page`, `error`, `access_log`, and `ollama/` for ollama's API). The
//! prompt thread parses bodies and makes requests of the decoder (`prompt_thread`, `prepare`). The engine's thread runs the
//! decode loop (`engine_loop`); a `job` goes to it, and events come back. `saved_prompts` keeps the KV
//! cache over restarts, `request_log` writes requests and answers to a file. `server` is what they share, `stats` counts,
//! `config` has the settings, `run` starts the threads.

mod access;
mod access_log;
mod body;
mod completion_stream;
mod completions;
mod config;
mod cors;
mod engine_loop;
mod error;
mod event_body;
mod http;
mod job;
mod lingering_close;
mod metrics;
mod model_info;
mod ollama;
mod page;
mod prepare;
mod prompt_thread;
mod request_log;
mod response_head;
mod routes;
mod run;
mod saved_prompts;
mod server;
mod stall_guard;
mod stats;
mod text_tools;

pub(crate) use access::Access;
pub(crate) use config::ServeConfig;
pub(crate) use request_log::RequestLog;
pub(crate) use run::serve;
pub(crate) use saved_prompts::CacheSettings;

//! ollama's API: `handlers` answers, `request` translates bodies to OpenAI's, `lines` writes streams of JSON lines, `info`
//! describes the model.

mod handlers;
mod info;
mod lines;
mod request;

pub(super) use handlers::{chat, generate};
pub(super) use info::{ps, show, tags, version};

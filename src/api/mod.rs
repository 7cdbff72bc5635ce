//! OpenAI's API, for `batch` and `serve`: `body` and `params` parse a request, `decode_request` makes the decoder's
//! request from it, `choices` writes answers, `tools/` has tool calls. `refusal` says why a request is refused.

mod body;
mod choices;
mod decode_request;
mod options;
mod params;
mod prompt_input;
mod refusal;
mod structured;
mod tools;

pub(crate) use body::{Body, Endpoint, chat_messages};
pub(crate) use choices::{calls_reason, chat_choice, chat_logprobs, finish_reason, text_choice, text_logprobs};
pub(crate) use decode_request::{decode_request, sampling};
pub(crate) use options::{RequestOptions, Seed};
pub(crate) use prompt_input::PromptInput;
pub(crate) use refusal::Refusal;
pub(crate) use tools::{CallParser, Part, parse_calls};

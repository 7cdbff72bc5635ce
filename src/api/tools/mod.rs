//! Tool calls: functions that a client offers, and calls of them in answers. Tulu was not trained for them. So the functions
//! are described in the system message (`instructions`), calls and results in the conversation are rendered as text
//! (`history`), a grammar makes every call valid (`grammar/tool_calls.rs`), and `parser` finds the calls in an answer.
//! `request` parses the parameters.

mod history;
mod instructions;
mod parser;
mod request;

pub(super) use history::render_message;
pub(super) use instructions::add_instructions;
pub(super) use parser::Call;
pub(crate) use parser::{CallParser, Part, parse_calls};
pub(super) use request::{Choice, Tools};

//! The text that describes the functions to the model. It does not depend on `tool_choice`, so that requests with different
//! choices share their prompts.

use super::request::{Function, Tools};
use crate::grammar::{CALL_AFTER_ARGUMENTS, CALL_BEFORE_ARGUMENTS, CALL_BEFORE_NAME, CALL_MARKER};
use crate::prompt::{Message, Role};
use serde_json::{Map, Value, json};

/// Adds the description of the functions to the system message, or a system message with it.
pub(in crate::api) fn add_instructions(messages: &mut Vec<Message>, tools: &Tools) {
    let text = instructions(&tools.functions);
    match messages.first_mut() {
        Some(first) if first.role == Role::System => {
            let space = if first.content.is_empty() { "" } else { "\n\n" };
            first.content.push_str(space);
            first.content.push_str(&text);
        }
        _ => messages.insert(0, Message::new(Role::System, text)),
    }
}

fn instructions(functions: &[Function]) -> String {
    let list: String = functions.iter().map(|function| described(function) + "\n").collect();
    let example = format!(
        "{CALL_MARKER}{CALL_BEFORE_NAME}NAME{CALL_BEFORE_ARGUMENTS}{{\"ARGUMENT\": VALUE}}{CALL_AFTER_ARGUMENTS}"
    );
    format!(
        "You can call functions. Each line describes one; \"parameters\" is the JSON schema of its arguments.\n<tools>\n{list}\
         </tools>\nCall a function only if you need it for the answer; otherwise answer in words. To call one, write only \
         this:\n{example}\nThe result comes between <tool_response> and </tool_response>."
    )
}

/// Returns the description of a function as JSON.
fn described(function: &Function) -> String {
    let mut fields = Map::from_iter([("name".to_owned(), json!(function.name))]);
    fields.extend(function.description.as_ref().map(|text| ("description".to_owned(), json!(text))));
    fields.insert("parameters".to_owned(), function.parameters.clone());
    Value::Object(fields).to_string()
}

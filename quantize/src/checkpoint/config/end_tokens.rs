//! Reads the token ids that end an answer: `eos_token_id`, a number or a list, in config.json and
//! generation_config.json. Transformers' `generate` stops at each of them.

use serde_json::{Map, Value};

/// A token id in `eos_token_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndToken {
    /// The id.
    pub(crate) id: u64,
    /// Whether it comes from a list. A single number can be wrong: in some Tulu 2.5 repositories it is the id of `<s>`.
    pub(crate) listed: bool,
}

/// Returns the ids in `files`, without duplicates.
pub(super) fn read(files: [&Map<String, Value>; 2]) -> Vec<EndToken> {
    let mut all: Vec<EndToken> = Vec::new();
    for json in files {
        let found = match json.get("eos_token_id") {
            Some(Value::Array(list)) => {
                list.iter().filter_map(|id| Some(EndToken { id: id.as_u64()?, listed: true })).collect()
            }
            Some(value) => value.as_u64().map(|id| EndToken { id, listed: false }).into_iter().collect::<Vec<_>>(),
            None => Vec::new(),
        };
        for end in found {
            match all.iter_mut().find(|known| known.id == end.id) {
                Some(known) => known.listed |= end.listed,
                None => all.push(end),
            }
        }
    }
    all
}

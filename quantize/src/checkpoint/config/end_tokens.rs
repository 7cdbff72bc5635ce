//! Ids that end an answer. Transformers' `generate` stops at every id of `eos_token_id`, a number or a list, of
//! generation_config.json, or of config.json where that file is not there.

use serde_json::{Map, Value};

/// One id, and how much it is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndToken {
    /// The token.
    pub(crate) id: u64,
    /// Whether it stands in a list. A single number may be a leftover: some Tulu 2.5 repositories say that `<s>` ends an
    /// answer.
    pub(crate) listed: bool,
}

/// What the files name, each id once, in the order of the files.
pub(super) fn of(files: [&Map<String, Value>; 2]) -> Vec<EndToken> {
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

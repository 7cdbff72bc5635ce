//! The elements of a grammar, as far as the checks need them.

use std::collections::HashMap;

/// The alternatives of each rule.
pub(super) type Rules = HashMap<String, Vec<Vec<Item>>>;

/// An element of a sequence.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// At least one character.
    Text,
    /// Nothing, such as `""`.
    Empty,
    Rule(String),
    Group(Vec<Vec<Item>>),
    /// An item that may be missing.
    Optional(Box<Item>),
}

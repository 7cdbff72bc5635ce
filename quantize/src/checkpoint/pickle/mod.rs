//! A pickle machine that only builds data.
//!
//! A pickle is a program for a stack machine that can call any Python function. This machine knows only the opcodes and
//! functions (`allowed_globals`) that torch.save needs for a table of tensors; everything else is an error. Calls are
//! recorded ([`Node::Call`]), never executed; `torch/state_dict.rs` interprets them. Values are small handles into one
//! list of nodes, so a memo look-up copies no data, and no function recurses.

pub(crate) mod allowed_globals;
mod data;
mod machine;

pub(crate) use data::{Node, PickleError, Value};

/// Limit on the length of a pickle; those of the 70B model have about 100 kB.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// The data that a pickle builds.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    /// The value that the pickle returns.
    pub(crate) root: Value,
}

impl<'a> Pickle<'a> {
    /// Runs the pickle `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let (nodes, root) = machine::run(bytes)?;
        Ok(Self { bytes, nodes, root })
    }

    /// Returns the text of a [`Value::Text`].
    pub(crate) fn text(&self, value: Value) -> Option<&'a str> {
        let Value::Text(start, len) = value else { return None };
        let start = start as usize;
        self.bytes.get(start..start.checked_add(len as usize)?).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Returns the offset of a [`Value::Text`] in the pickle.
    pub(crate) fn offset_of(&self, value: Value) -> usize {
        if let Value::Text(start, _) = value { start as usize } else { 0 }
    }

    /// Returns the node of a [`Value::Node`].
    pub(crate) fn node(&self, value: Value) -> Option<&Node> {
        if let Value::Node(i) = value { self.nodes.get(i) } else { None }
    }

    /// Returns the elements, if `value` is a tuple.
    pub(crate) fn tuple(&self, value: Value) -> Option<&[Value]> {
        if let Some(Node::Tuple(items)) = self.node(value) { Some(items) } else { None }
    }
}

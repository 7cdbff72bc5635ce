//! A pickle machine that builds data and can do nothing else.
//!
//! Pickle is a program for a stack machine that may name any Python function and call it. This machine knows the opcodes
//! and the names that torch.save needs for a table of tensors ([`global`]), and refuses everything else by name and
//! offset. A call is not made but written down ([`Node::Call`]); what a tensor is, `torch.rs` reads from there.
//!
//! Bombs: values are small and are copied, what they hold lies in one flat list of nodes, so a memo entry that is fetched
//! a billion times costs nothing, and nothing recurses, not even when all is dropped. Memory is bounded by the limits.

pub(crate) mod allowed_globals;
mod data;
mod machine;

pub(crate) use data::{Node, PickleError, Value};

/// The 70B model's shards have pickles of some 100 kB.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// What a pickle builds.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    /// What the pickle is of.
    pub(crate) root: Value,
}

impl<'a> Pickle<'a> {
    /// Runs the machine over all of `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let (nodes, root) = machine::run(bytes)?;
        Ok(Self { bytes, nodes, root })
    }

    /// The text of a [`Value::Text`].
    pub(crate) fn text(&self, value: Value) -> Option<&'a str> {
        let Value::Text(start, len) = value else { return None };
        let start = start as usize;
        self.bytes.get(start..start.checked_add(len as usize)?).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Where a [`Value::Text`] stands in the pickle.
    pub(crate) fn place(&self, value: Value) -> usize {
        if let Value::Text(start, _) = value { start as usize } else { 0 }
    }

    /// The node of a [`Value::Node`].
    pub(crate) fn node(&self, value: Value) -> Option<&Node> {
        if let Value::Node(i) = value { self.nodes.get(i) } else { None }
    }

    /// The elements, when `value` is a tuple.
    pub(crate) fn tuple(&self, value: Value) -> Option<&[Value]> {
        if let Some(Node::Tuple(items)) = self.node(value) { Some(items) } else { None }
    }
}

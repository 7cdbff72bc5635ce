//! The data that the machine builds from a pickle: values on the stack, nodes that contain other values, and errors.

use super::allowed_globals::Global;
use crate::error::Code;

/// A value on the stack. No tensor contains floats, lists or sets, so their contents are not kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    List,
    Set,
    /// A string: offset and length in the pickle.
    Text(u32, u32),
    Global(Global),
    /// Index into the list of nodes.
    Node(usize),
}

/// A value that contains other values.
#[derive(Debug)]
pub(crate) enum Node {
    Tuple(Vec<Value>),
    Dict {
        pairs: Vec<(Value, Value)>,
        ordered: bool,
    },
    /// A call that Python would execute here.
    Call {
        global: Global,
        args: Vec<Value>,
        at: usize,
    },
    /// A storage of the archive: the tuple that identifies it.
    Persistent {
        id: Vec<Value>,
        at: usize,
    },
}

/// An error at an offset in the pickle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PickleError {
    pub(crate) code: Code,
    pub(crate) at: usize,
    pub(crate) what: String,
}

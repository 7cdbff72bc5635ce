//! The data that the machine builds from a pickle: values on the stack, nodes that hold other values, and errors.

use super::allowed_globals::Global;
use crate::error::Code;

/// What stands on the stack. Floats, lists and sets are in no tensor: that there was one is all that is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    List,
    Set,
    /// Bytes of the pickle: where and how many.
    Text(u32, u32),
    Global(Global),
    /// Index into the list of nodes.
    Node(usize),
}

/// What holds other values.
#[derive(Debug)]
pub(crate) enum Node {
    Tuple(Vec<Value>),
    Dict {
        pairs: Vec<(Value, Value)>,
        ordered: bool,
    },
    /// A call that Python would make here.
    Call {
        global: Global,
        args: Vec<Value>,
        at: usize,
    },
    /// A storage of the archive, by a tuple that names it.
    Persistent {
        id: Vec<Value>,
        at: usize,
    },
}

/// A broken invariant at an offset in the pickle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PickleError {
    pub(crate) code: Code,
    pub(crate) at: usize,
    pub(crate) what: String,
}

//! The pickle machine: opcodes, stack, memo, and their limits.

use super::allowed_globals::Global;
use super::data::{Node, PickleError, Value};
use crate::error::Code;

const MAX_OPCODES: usize = 2_000_000;
const MAX_MEMO: usize = 1_000_000;
const MAX_TEXT: usize = 64 << 10;
/// Limit on nested tuples and calls, and on open marks.
const MAX_DEPTH: u8 = 64;
/// Longest integer in bytes.
const MAX_LONG: usize = 8;
/// Longest module and name of a GLOBAL, in bytes.
const MAX_NAME: usize = 1 << 10;

struct Machine<'a> {
    bytes: &'a [u8],
    /// Offset of the next byte.
    at: usize,
    /// Offset of the current opcode.
    op: usize,
    stack: Vec<Value>,
    /// Stack heights at the open marks.
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    nodes: Vec<Node>,
    /// Nesting depth of each node.
    depths: Vec<u8>,
}

type PickleResult<T> = Result<T, PickleError>;

/// Runs the pickle `bytes` and returns all nodes and the result.
pub(super) fn run(bytes: &[u8]) -> PickleResult<(Vec<Node>, Value)> {
    let (stack, marks, memo, nodes, depths) = (vec![], vec![], vec![], vec![], vec![]);
    let mut machine = Machine { bytes, at: 0, op: 0, stack, marks, memo, nodes, depths };
    let root = machine.run()?;
    Ok((machine.nodes, root))
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> PickleResult<Value> {
        for _ in 0..MAX_OPCODES {
            self.op = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.stop();
            }
            self.step(opcode)?;
        }
        Err(self.error(Code::PickleLimit, format!("has over {MAX_OPCODES} opcodes")))
    }

    fn step(&mut self, opcode: u8) -> PickleResult<()> {
        match opcode {
            0x80 => match self.byte()? {
                // protocol 3 adds opcodes for bytes, which are errors in `step`
                2 | 3 => Ok(()),
                n => Err(self.error(Code::PickleProtocol, format!("is of pickle protocol {n}; 2 and 3 are supported"))),
            },
            b'(' => {
                if self.marks.len() >= usize::from(MAX_DEPTH) {
                    return Err(self.too_deep());
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => self.array().map(i32::from_le_bytes).and_then(|n| self.push(Value::Int(n.into()))),
            b'K' => self.byte().and_then(|n| self.push(Value::Int(n.into()))),
            b'M' => self.array().map(u16::from_le_bytes).and_then(|n| self.push(Value::Int(n.into()))),
            0x8a => self.long(),
            b'G' => self.array::<8>().and_then(|_| self.push(Value::Float)),
            b'X' => self.array().map(u32::from_le_bytes).and_then(|n| self.push_text(n as usize)),
            b'U' => self.byte().and_then(|n| self.push_text(n.into())),
            b']' => self.push(Value::List),
            0x8f => self.push(Value::Set),
            b'}' => self.push_node(Node::Dict { pairs: vec![], ordered: false }, 0),
            b')' => self.push_tuple(vec![]),
            0x85 => self.pop(1).and_then(|items| self.push_tuple(items)),
            0x86 => self.pop(2).and_then(|items| self.push_tuple(items)),
            0x87 => self.pop(3).and_then(|items| self.push_tuple(items)),
            b't' => self.pop_to_mark().and_then(|items| self.push_tuple(items)),
            b'a' => self.pop(1).and_then(|_| self.top_is_list()),
            b'e' => self.pop_to_mark().and_then(|_| self.top_is_list()),
            b's' => self.pop(2).and_then(|items| self.set_items(&items)),
            b'u' => self.pop_to_mark().and_then(|items| self.set_items(&items)),
            b'q' => self.byte().and_then(|i| self.memo_put(i.into())),
            b'r' => self.array().map(u32::from_le_bytes).and_then(|i| self.memo_put(i as usize)),
            b'h' => self.byte().and_then(|i| self.memo_get(i.into())),
            b'j' => self.array().map(u32::from_le_bytes).and_then(|i| self.memo_get(i as usize)),
            b'c' => self.global(),
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            other => {
                let name = opcode_name(other);
                let what = format!("has the unsupported opcode 0x{other:02x}{name}");
                Err(self.error(Code::PickleOpcode, what))
            }
        }
    }

    fn stop(&mut self) -> PickleResult<Value> {
        if self.at != self.bytes.len() {
            let what = format!("has {} bytes after its end", self.bytes.len().saturating_sub(self.at));
            return Err(self.error(Code::PickleEnd, what));
        }
        match (self.stack.as_slice(), self.marks.is_empty()) {
            ([root], true) => Ok(*root),
            (left, _) => Err(self.error(Code::PickleStack, format!("ends with {} values instead of one", left.len()))),
        }
    }

    fn error(&self, code: Code, what: impl Into<String>) -> PickleError {
        PickleError { code, at: self.op, what: what.into() }
    }

    fn too_deep(&self) -> PickleError {
        self.error(Code::PickleLimit, format!("nests deeper than {MAX_DEPTH}"))
    }

    // reading bytes

    fn bytes(&mut self, n: usize) -> PickleResult<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            let what =
                format!("needs {n} bytes at +0x{:x} and has {}", self.at, self.bytes.len().saturating_sub(self.at));
            return Err(self.error(Code::PickleEnd, what));
        };
        let found = &self.bytes[self.at..end];
        self.at = end;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> PickleResult<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> PickleResult<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn line(&mut self) -> PickleResult<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match rest.iter().take(MAX_NAME).position(|b| *b == b'\n') {
            Some(n) => Ok(&self.bytes(n.saturating_add(1))?[..n]),
            None if rest.len() < MAX_NAME => Err(self.error(Code::PickleEnd, "ends inside a name")),
            None => Err(self.error(Code::PickleLimit, format!("has a name of over {MAX_NAME} bytes"))),
        }
    }

    // stack and memo

    fn push(&mut self, value: Value) -> PickleResult<()> {
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node, depth: u8) -> PickleResult<()> {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
        self.depths.push(depth);
        Ok(())
    }

    /// Returns the depth of a node that contains `items`.
    fn depth(&self, items: &[Value]) -> PickleResult<u8> {
        let of = |value: &Value| if let Value::Node(i) = value { self.depths.get(*i).copied() } else { None };
        let depth = items.iter().filter_map(of).max().unwrap_or(0);
        if depth >= MAX_DEPTH { Err(self.too_deep()) } else { Ok(depth.saturating_add(1)) }
    }

    fn push_tuple(&mut self, items: Vec<Value>) -> PickleResult<()> {
        let depth = self.depth(&items)?;
        self.push_node(Node::Tuple(items), depth)
    }

    fn push_text(&mut self, n: usize) -> PickleResult<()> {
        if n > MAX_TEXT {
            return Err(self.error(Code::PickleLimit, format!("has a string of {n} bytes; the limit is {MAX_TEXT}")));
        }
        let start = self.at;
        if std::str::from_utf8(self.bytes(n)?).is_err() {
            return Err(self.error(Code::PickleValue, "has a string that is not UTF-8"));
        }
        // both are below MAX_BYTES
        self.push(Value::Text(u32::try_from(start).unwrap_or(u32::MAX), u32::try_from(n).unwrap_or(u32::MAX)))
    }

    /// LONG1: a little-endian two's complement integer of any length.
    fn long(&mut self) -> PickleResult<()> {
        let n = usize::from(self.byte()?);
        if n > MAX_LONG {
            return Err(self.error(Code::PickleLimit, format!("has an integer of {n} bytes")));
        }
        let bytes = self.bytes(n)?;
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide[..n].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    /// Pops `n` values, which must be above the last mark. (`split_off` would keep the capacity of the stack.)
    fn pop(&mut self, n: usize) -> PickleResult<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n).filter(|at| *at >= floor) {
            Some(at) => Ok(self.stack.drain(at..).collect()),
            None => Err(self.error(Code::PickleStack, format!("pops {n} values from a stack that has fewer"))),
        }
    }

    fn pop_one(&mut self) -> PickleResult<Value> {
        let taken = self.pop(1)?;
        Ok(taken.first().copied().unwrap_or(Value::None))
    }

    fn pop_to_mark(&mut self) -> PickleResult<Vec<Value>> {
        match self.marks.pop() {
            Some(at) => Ok(self.stack.drain(at.min(self.stack.len())..).collect()),
            None => Err(self.error(Code::PickleStack, "pops to a mark that does not exist")),
        }
    }

    fn top(&self) -> PickleResult<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.last().filter(|_| self.stack.len() > floor);
        top.copied().ok_or_else(|| self.error(Code::PickleStack, "uses the top of an empty stack"))
    }

    fn memo_put(&mut self, i: usize) -> PickleResult<()> {
        let top = self.top()?;
        if i >= MAX_MEMO {
            return Err(self.error(Code::PickleLimit, format!("has memo entry {i}; the limit is {MAX_MEMO}")));
        }
        if i >= self.memo.len() {
            self.memo.resize(i.saturating_add(1), None);
        }
        self.memo[i] = Some(top);
        Ok(())
    }

    fn memo_get(&mut self, i: usize) -> PickleResult<()> {
        match self.memo.get(i).copied().flatten() {
            Some(value) => self.push(value),
            None => Err(self.error(Code::PickleStack, format!("reads memo entry {i}, which does not exist"))),
        }
    }

    // opcodes with an effect in Python

    fn global(&mut self) -> PickleResult<()> {
        let (module, name) = (self.line()?, self.line()?);
        match Global::from_name(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => {
                let full = [module, b".", name].concat();
                let shown: String = full.escape_ascii().to_string().chars().take(120).collect();
                Err(self.error(Code::PickleGlobal, format!("uses '{shown}', which is not allowed")))
            }
        }
    }

    fn call(&mut self) -> PickleResult<()> {
        let taken = self.pop(2)?;
        let (Some(Value::Global(global)), Some(args)) = (taken.first().copied(), taken.get(1)) else {
            return Err(self.error(Code::PickleValue, "calls a value that is not a function"));
        };
        let args = match args {
            Value::Node(i) => match self.nodes.get(*i) {
                Some(Node::Tuple(args)) if global.takes(args.len()) => args.clone(),
                Some(Node::Tuple(args)) => {
                    let what = format!("calls {global:?} with {} arguments", args.len());
                    return Err(self.error(Code::PickleValue, what));
                }
                _ => return Err(self.error(Code::PickleValue, "calls with arguments that are not a tuple")),
            },
            _ => return Err(self.error(Code::PickleValue, "calls with arguments that are not a tuple")),
        };
        if global == Global::OrderedDict {
            return self.push_node(Node::Dict { pairs: vec![], ordered: true }, 0);
        }
        let depth = self.depth(&args)?;
        self.push_node(Node::Call { global, args, at: self.op }, depth)
    }

    fn persistent(&mut self) -> PickleResult<()> {
        let id = self.pop_one()?;
        let items = if let Value::Node(i) = id { self.nodes.get(i) } else { None };
        let Some(Node::Tuple(items)) = items else {
            return Err(self.error(Code::PickleValue, "has a persistent id that is not a tuple"));
        };
        if items.len() > 8 {
            return Err(self.error(Code::PickleValue, format!("has a persistent id of {} values", items.len())));
        }
        let id = items.clone();
        self.push_node(Node::Persistent { id, at: self.op }, 1)
    }

    /// BUILD: sets attributes of an OrderedDict (`_metadata`, the versions of modules), which are not used.
    fn build(&mut self) -> PickleResult<()> {
        self.pop(1)?;
        match self.top()? {
            Value::Node(i) if matches!(self.nodes.get(i), Some(Node::Dict { ordered: true, .. })) => Ok(()),
            _ => Err(self.error(Code::PickleValue, "sets attributes on a value that is not an OrderedDict")),
        }
    }

    fn top_is_list(&self) -> PickleResult<()> {
        if self.top()? == Value::List {
            Ok(())
        } else {
            Err(self.error(Code::PickleValue, "appends to a value that is not a list"))
        }
    }

    fn set_items(&mut self, items: &[Value]) -> PickleResult<()> {
        let top = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err(self.error(Code::PickleValue, "sets a key without a value"));
        }
        let node = if let Value::Node(i) = top { self.nodes.get_mut(i) } else { None };
        let Some(Node::Dict { pairs, .. }) = node else {
            return Err(self.error(Code::PickleValue, "sets keys on a value that is not a dict"));
        };
        pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }
}

/// Names of the opcodes that attacks and other writers use, for error messages.
fn opcode_name(opcode: u8) -> &'static str {
    match opcode {
        b'i' => " (INST)",
        b'o' => " (OBJ)",
        b'P' => " (PERSID)",
        0x82..=0x84 => " (EXT)",
        0x8b => " (LONG4)",
        0x92 => " (NEWOBJ_EX)",
        0x93 => " (STACK_GLOBAL)",
        0x94 => " (MEMOIZE)",
        0x95 => " (FRAME)",
        _ => "",
    }
}

//! Hostile pickles in `.bin` files, one row each: the expected code, and the part of the error line that names the
//! place. No file is written, and nothing is executed.

use super::refused;
use crate::fixtures;
use crate::fixtures::torch::{Pickle, View, members, zip};
use tulu_quantize::Code;

/// A file with this data.pkl and one storage of 16 bytes.
fn pickled(pickle: &Pickle) -> Vec<u8> {
    zip(&members(&pickle.0, &[vec![0; 16]])).bytes
}

#[test]
fn pickles_that_call_other_code_are_refused_and_not_executed() {
    let p = Pickle::new;
    let canary = tempfile::tempdir().unwrap();
    let canary = canary.path().join("executed");
    let command = format!("touch {}", canary.display());
    let call = |module: &str, name: &str| p().global(module, name).text(&command).op(b"\x85R.");
    let cases: Vec<(&str, Pickle, Code, &str)> = vec![
        ("os.system", call("os", "system"), Code::PickleGlobal, "data.pkl+0x2 (byte 66): uses 'os.system'"),
        ("posix.system", call("posix", "system"), Code::PickleGlobal, "'posix.system'"),
        ("eval", call("builtins", "eval"), Code::PickleGlobal, "'builtins.eval'"),
        ("eval of Python 2", call("__builtin__", "eval"), Code::PickleGlobal, "'__builtin__.eval'"),
        ("torch.load", call("torch.storage", "_load_from_bytes"), Code::PickleGlobal, "_load_from_bytes"),
        ("runpy", call("runpy", "_run_code"), Code::PickleGlobal, "'runpy._run_code'"),
        ("pip", call("pip", "main"), Code::PickleGlobal, "'pip.main'"),
        (
            "a name inside a state_dict",
            p().ordered().op(b"(").text("x").global("os", "system").op(b"u."),
            Code::PickleGlobal,
            "data.pkl+0x24",
        ),
        ("an attribute", call("torch", "_utils.os.system"), Code::PickleGlobal, "'torch._utils.os.system'"),
        ("escapes", p().op(b"c\x1b[2J\nx\n."), Code::PickleGlobal, "\\x1b[2J.x"),
    ];
    for (case, pickle, code, place) in cases {
        refused(case, &pickled(&pickle), code, place);
    }
    assert!(!canary.exists());
}

#[test]
fn unsupported_opcodes_protocols_and_sizes_of_pickles_are_refused() {
    let p = Pickle::new;
    let cases: Vec<(&str, Pickle, Code, &str)> = vec![
        ("a long name", p().op(b"c").op(&[b'a'; 5000]).op(b"\nb\n."), Code::PickleLimit, "+0x2 "),
        (
            "INST",
            p().op(b"(ios\nsystem\n."),
            Code::PickleOpcode,
            "data.pkl+0x3 (byte 67): has the unsupported opcode 0x69 (INST)",
        ),
        ("OBJ", p().op(b"(o."), Code::PickleOpcode, "(OBJ)"),
        (
            "STACK_GLOBAL",
            p().text("os").text("system").op(b"\x93."),
            Code::PickleOpcode,
            "+0x14 (byte 84): has the unsupported opcode 0x93 (STACK_GLOBAL)",
        ),
        ("EXT1", p().op(b"\x82\x01."), Code::PickleOpcode, "(EXT)"),
        ("EXT4", p().op(b"\x84\x01\0\0\0."), Code::PickleOpcode, "(EXT)"),
        ("PERSID", p().op(b"P0\n."), Code::PickleOpcode, "(PERSID)"),
        ("FRAME", p().op(b"\x95\0\0\0\0\0\0\0\0."), Code::PickleOpcode, "(FRAME)"),
        ("NEWOBJ_EX", p().op(b"))}\x92."), Code::PickleOpcode, "(NEWOBJ_EX)"),
        ("LONG4", p().op(b"\x8b\xff\xff\xff\x7f."), Code::PickleOpcode, "(LONG4)"),
        ("BINBYTES", p().op(b"B\xff\xff\xff\xff"), Code::PickleOpcode, "0x42"),
        (
            "protocol 5",
            Pickle(vec![0x80, 5, b'N', b'.']),
            Code::PickleProtocol,
            "data.pkl+0x0 (byte 64): is of pickle protocol 5",
        ),
        (
            "a text of 4 GiB",
            p().op(b"X\xff\xff\xff\xff"),
            Code::PickleLimit,
            "+0x2 (byte 66): has a string of 4294967295 bytes",
        ),
        ("a long of 255 bytes", p().op(&[0x8a, 255]).op(&[1; 255]), Code::PickleLimit, "integer of 255 bytes"),
        ("a memo entry of 4 billion", p().op(b"Nr\xff\xff\xff\xff."), Code::PickleLimit, "4294967295"),
        (
            "a million TUPLE1",
            p().op(b"N").op(&vec![0x85; 1_000_000]).op(b"."),
            Code::PickleLimit,
            "+0x43 (byte 131): nests deeper",
        ),
        (
            "a million MARK",
            p().op(&vec![b'('; 1_000_000]).op(b"."),
            Code::PickleLimit,
            "+0x42 (byte 130): nests deeper",
        ),
        ("three million opcodes", p().op(&vec![b'N'; 3_000_000]).op(b"."), Code::PickleLimit, "2000000"),
    ];
    for (case, pickle, code, place) in cases {
        refused(case, &pickled(&pickle), code, place);
    }
}

#[test]
fn malformed_pickles_are_refused_with_the_offset() {
    let p = Pickle::new;
    let cases: Vec<(&str, Pickle, Code, &str)> = vec![
        ("a text beyond the end", p().op(b"X\x10\0\0\0abc"), Code::PickleEnd, "+0x2 "),
        ("a text that is none", p().op(b"X\x02\0\0\0\xff\xfe."), Code::PickleValue, "UTF-8"),
        (
            "a memo bomb",
            (0..40).fold(p().op(b"N\x86q\0".as_slice()), |p, _| p.op(b"h\0h\0\x86q\0")).op(b"."),
            Code::PickleStack,
            "+0x3",
        ),
        ("a memo entry that is not there", p().op(b"h\x07."), Code::PickleStack, "+0x2 (byte 66): reads memo entry 7"),
        (
            "REDUCE of too few",
            p().global("torch._utils", "_rebuild_tensor_v2").op(b"N\x85R."),
            Code::PickleValue,
            "calls Tensor with 1 arguments",
        ),
        (
            "REDUCE of no tuple",
            p().global("torch._utils", "_rebuild_tensor_v2").op(b"NR."),
            Code::PickleValue,
            "arguments that are not a tuple",
        ),
        ("REDUCE of a text", p().text("os.system").op(b")R."), Code::PickleValue, "a value that is not a function"),
        (
            "REDUCE of a storage type",
            p().global("torch", "FloatStorage").op(b"K\x01\x85R."),
            Code::PickleValue,
            "arguments",
        ),
        (
            "an OrderedDict of something",
            p().global("collections", "OrderedDict").op(b"]\x85R."),
            Code::PickleValue,
            "OrderedDict",
        ),
        (
            "NEWOBJ of a tensor",
            p().global("torch._utils", "_rebuild_tensor_v2").op(b")\x81."),
            Code::PickleValue,
            "arguments",
        ),
        ("BUILD on a dict", p().op(b"}}b."), Code::PickleValue, "+0x4 (byte 68): sets attributes"),
        ("BUILD on a tensor", p().tensor(&view()).op(b"}b."), Code::PickleValue, "sets attributes"),
        ("SETITEM on a list", p().op(b"]K\x01K\x02s."), Code::PickleValue, "+0x7 (byte 71): sets keys"),
        ("SETITEM on a storage", p().storage("FloatStorage", "0", 4).op(b"K\0K\0s."), Code::PickleValue, "sets keys"),
        ("SETITEMS on a tuple", p().op(b")(K\x01K\x02u."), Code::PickleValue, "sets keys"),
        ("SETITEMS of three", p().op(b"}(K\x01K\x02K\x03u."), Code::PickleValue, "without a value"),
        ("APPEND to a dict", p().op(b"}Na."), Code::PickleValue, "appends"),
        (
            "a persistent id of a text",
            p().text("storage").op(b"Q."),
            Code::PickleValue,
            "a persistent id that is not a tuple",
        ),
        ("an empty stack", p().op(b"\x85."), Code::PickleStack, "+0x2"),
        ("below a mark", p().op(b"N(\x85."), Code::PickleStack, "+0x4"),
        ("no mark", p().op(b"Nt."), Code::PickleStack, "+0x3"),
        ("no end", p().op(b"N"), Code::PickleEnd, "+0x3"),
        ("two values", p().op(b"NN."), Code::PickleStack, "+0x4"),
        ("more after the end", p().op(b"}.cos\nsystem\n"), Code::PickleEnd, "has 11 bytes after its end"),
        ("an empty pickle", Pickle(vec![]), Code::PickleEnd, "+0x0"),
        ("no table", p().op(b"N."), Code::TorchState, "not a dict of tensors"),
        (
            "a table in a table",
            p().op(b"}").text("state_dict").op(b"}s."),
            Code::TorchState,
            "data.pkl+0x8 (byte 72): entry 'state_dict' is not a tensor",
        ),
        (
            "a name of many lines",
            p().op(b"}").text(&"\n".repeat(60_000)).op(b"}s."),
            Code::TorchState,
            "\\n…' is not a tensor",
        ),
        ("a key that is a number", p().op(b"}K\x01").tensor(&view()).op(b"s."), Code::TorchState, "key"),
    ];
    for (case, pickle, code, place) in cases {
        refused(case, &pickled(&pickle), code, place);
    }
}

/// A norm over the storage of 16 bytes that [`pickled`] makes.
fn view() -> View {
    View::whole("BFloat16Storage", 0, &[8])
}

#[test]
fn false_storages_and_views_are_refused() {
    type Change = fn(&mut View);
    let cases: &[(&str, Change, Code, &str)] = &[
        ("more elements than bytes", |v| v.numel = 9, Code::TorchStorage, "9 elements"),
        ("fewer", |v| v.numel = 7, Code::TorchStorage, "7 elements"),
        ("a negative number", |v| v.numel = -8, Code::TorchStorage, "-8"),
        ("a number that wraps to 16 bytes", |v| v.numel = (1 << 62) + 8, Code::TorchStorage, "elements"),
        ("the most", |v| v.numel = i64::MAX, Code::TorchStorage, "elements"),
        ("another type", |v| v.kind = "FloatStorage", Code::TorchStorage, "Float"),
        ("a storage that is not there", |v| v.key = "99".to_owned(), Code::TorchStorage, "'99'"),
        ("a storage outside", |v| v.key = "../version".to_owned(), Code::TorchStorage, "../version"),
        ("the offset", |v| v.offset = 1, Code::TorchView, "from element 1"),
        ("a far offset", |v| v.offset = i64::MAX, Code::TorchView, "from element"),
        ("a negative offset", |v| v.offset = -1, Code::TorchView, "offset"),
        ("the shape", |v| v.shape = vec![9], Code::TorchView, "[9]"),
        ("a negative shape", |v| v.shape = vec![-8], Code::TorchView, "shape"),
        ("a far stride", |v| v.strides = vec![1 << 61], Code::TorchView, "strides"),
        ("a negative stride", |v| v.strides = vec![-1], Code::TorchView, "stride"),
        ("a stride too many", |v| v.strides = vec![1, 1], Code::TorchView, "2 strides"),
        ("five dimensions", |v| (v.shape, v.strides) = (vec![1; 5], vec![1; 5]), Code::TorchView, "5 dimensions"),
        (
            "products that wrap",
            |v| (v.shape, v.strides) = (vec![1 << 62, 1 << 62], vec![1 << 62, 1 << 62]),
            Code::TorchView,
            "outside its storage",
        ),
        (
            "an endless tensor of one element",
            |v| (v.shape, v.strides) = (vec![1 << 40, 1 << 40], vec![0, 0]),
            Code::TorchView,
            "outside its storage",
        ),
        (
            "a large tensor of one element",
            |v| (v.shape, v.strides) = (vec![1 << 30, 1 << 30], vec![0, 0]),
            Code::TensorShape,
            "model.norm.weight",
        ),
    ];
    let mut entries: Vec<(String, View)> = Vec::new();
    let mut storages = vec![vec![0; 16]];
    for (name, shape, bytes) in fixtures::Checkpoint::small(1).tensors() {
        let key = if name == "model.norm.weight" { 0 } else { storages.len() };
        entries.push((name, View::whole("BFloat16Storage", key, &shape)));
        if key > 0 {
            storages.push(bytes);
        }
    }
    for (case, change, code, place) in cases {
        let changed = entries.iter().map(|(name, view)| {
            let mut view = view.clone();
            if name == "model.norm.weight" {
                change(&mut view);
            }
            (name.as_str(), view)
        });
        refused(case, &zip(&members(&Pickle::state(changed), &storages)).bytes, *code, place);
    }
    let twice = [("model.norm.weight", view()), ("model.norm.weight", view())];
    refused("twice", &pickled(&Pickle(Pickle::state(twice))), Code::TorchDuplicate, "model.norm.weight");
    let negated =
        Pickle::new().op(b"}").text("model.norm.weight").global("torch._utils", "_rebuild_tensor_v2").op(b"(");
    let negated = negated.storage("BFloat16Storage", "0", 8).int(0).tuple(&[8]).tuple(&[1]).op(b"\x89").ordered();
    let negated = negated.op(b"}").text("neg").op(b"\x88stRs.");
    refused("a negated view", &pickled(&negated), Code::TorchView, "metadata");
}

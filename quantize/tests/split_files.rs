//! GGUF files in several parts, as outputs and as sources.

use crate::fixtures::{self, bpe};
use crate::support::{convert_to, listing, options};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::{Gguf, Value};
use tulu_quantize::{Checkpoint, Code, Ftype, Plan, QuantizeOptions, Result, Silent, convert};

/// Opens all parts, in order.
fn open_parts(path: &Path) -> Result<Vec<Gguf>> {
    let (first, others) = tulu_quantize::gguf::open_parts(path)?;
    Ok(std::iter::once(first).chain(others).collect())
}

/// Converts `source` into parts of at most `max` bytes of tensors each.
fn convert_in_parts(source: &Checkpoint, out: &Path, max: u64) {
    let recipe = QuantizeOptions { split_max_bytes: Some(max), ..QuantizeOptions::default() };
    let plan = Plan::new(source, &[(Ftype::BF16, out.to_owned())], &recipe).unwrap();
    convert(source, &plan, options(2), &Silent).unwrap();
}

/// Type, dimensions and bytes of each tensor.
fn tensors(parts: &[Gguf]) -> HashMap<String, (String, Vec<u64>, Vec<u8>)> {
    let mut all = HashMap::new();
    for part in parts {
        let bytes = fs::read(&part.path).unwrap();
        for t in &part.tensors {
            let data = bytes[t.offset as usize..(t.offset + t.bytes) as usize].to_vec();
            let old = all.insert(t.name.clone(), (t.ggml_type.name().to_owned(), t.dims.clone(), data));
            assert!(old.is_none(), "{} is in two parts", t.name);
        }
    }
    all
}

/// A checkpoint with a computed tensor, whole and in parts.
fn whole_and_parts(dir: &Path) -> (PathBuf, PathBuf) {
    bpe::write(&dir.join("checkpoint"));
    let source = Checkpoint::open(&dir.join("checkpoint")).unwrap();
    let (whole, parts) = (dir.join("whole.gguf"), dir.join("parts/x.gguf"));
    fs::create_dir(dir.join("parts")).unwrap();
    convert_to(&dir.join("checkpoint"), &whole, Ftype::BF16).unwrap();
    convert_in_parts(&source, &parts, 2_000_000);
    (whole, parts)
}

#[test]
fn parts_have_the_names_keys_and_tensors_of_llama_gguf_split() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, _) = whole_and_parts(dir.path());
    let names = listing(&dir.path().join("parts"));
    let count = names.len();
    assert!(count > 2, "{names:?}");
    assert_eq!(names[1], format!("x-00002-of-{count:05}.gguf"));
    let parts = open_parts(&dir.path().join("parts").join(&names[1])).unwrap();
    let whole = open_parts(&whole).unwrap();
    assert_eq!(tensors(&parts), tensors(&whole));
    for (number, part) in parts.iter().enumerate() {
        let at = part.pairs.len() - 3;
        let expected = [
            ("split.no", Value::U16(number as u16)),
            ("split.count", Value::U16(count as u16)),
            ("split.tensors.count", Value::I32(whole[0].tensors.len() as i32)),
        ]
        .map(|(key, value)| (key.to_owned(), value));
        assert_eq!(part.pairs[at..], expected);
        let others = if number == 0 { whole[0].pairs.as_slice() } else { &[] };
        assert_eq!(&part.pairs[..at], others);
        let bytes: u64 = part.tensors.iter().map(|t| t.bytes.next_multiple_of(32)).sum();
        assert!(bytes <= 2_000_000 || part.tensors.len() == 1, "part {number} has {bytes}");
    }
}

#[test]
fn one_part_is_a_plain_file() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::small(1).write(&dir.path().join("checkpoint"));
    let source = Checkpoint::open(&dir.path().join("checkpoint")).unwrap();
    convert_in_parts(&source, &dir.path().join("x.gguf"), 1 << 40);
    assert_eq!(listing(dir.path()), ["checkpoint", "x.gguf"]);
}

#[test]
fn any_part_of_a_split_file_is_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, _) = whole_and_parts(dir.path());
    let names = listing(&dir.path().join("parts"));
    for (path, out) in [(whole, "a.gguf"), (dir.path().join("parts").join(names.last().unwrap()), "b.gguf")] {
        let source = Checkpoint::open_gguf(&path, false).unwrap();
        let out = dir.path().join(out);
        let plan = Plan::new(&source, &[(Ftype::Q8_0, out)], &QuantizeOptions::default()).unwrap();
        convert(&source, &plan, options(2), &Silent).unwrap();
    }
    let [a, b] = ["a.gguf", "b.gguf"].map(|name| fs::read(dir.path().join(name)).unwrap());
    assert!(a == b, "the files differ");
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    whole_and_parts(dir.path());
    let folder = dir.path().join("parts");
    let names = listing(&folder);
    let [first, last] = [&names[0], names.last().unwrap()].map(|name| folder.join(name));
    fs::copy(&first, folder.join("renamed.gguf")).unwrap();
    let err = open_parts(&folder.join("renamed.gguf")).unwrap_err();
    assert_eq!(err.code, Code::Gguf);
    assert!(err.what.contains(&format!("-00001-of-{:05}.gguf", names.len())), "{err}");
    fs::rename(&last, folder.join("away")).unwrap();
    let err = open_parts(&first).unwrap_err();
    assert_eq!((err.code, err.file), (Code::Gguf, last.clone()));
    fs::copy(folder.join(&names[1]), &last).unwrap();
    let err = open_parts(&first).unwrap_err();
    assert!(err.what.contains("does not belong to"), "{err}");
}

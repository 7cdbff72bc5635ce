//! Record framing, keys and encodings.

use super::{Framing, InputFile, check_encoding};
use crate::batch::record_buffer::MAX_RECORD;
use crate::error::Code;
use std::collections::HashSet;

fn source(text: &[u8]) -> (tempfile::NamedTempFile, InputFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let source = InputFile::open(file.path()).unwrap();
    (file, source)
}

fn read(source: &InputFile, framing: Framing) -> Vec<(u64, u64, Option<String>)> {
    let mut items = source.records(framing).unwrap();
    let mut seen = Vec::new();
    while let Some(item) = items.next().unwrap() {
        let text = item.bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        seen.push((item.number, item.line, text));
    }
    seen
}

#[test]
fn every_line_is_a_record_and_long_ones_have_no_bytes() {
    let long = "x".repeat(MAX_RECORD + 1);
    let (_file, source) = source(format!("\u{feff}a\n\nb\r\n{long}\nlast").as_bytes());
    let some = |text: &str| Some(text.to_owned());
    let expected = [(1, 1, some("a")), (2, 2, some("")), (3, 3, some("b\r")), (4, 4, None), (5, 5, some("last"))];
    assert_eq!(read(&source, Framing::Lines), expected);
}

#[test]
fn blank_lines_are_skipped_if_they_are_not_records() {
    let (_file, source) = source("\u{feff}\n \t\r\na\n\n\u{a0}\nb\n\n\n".as_bytes());
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(read(&source, Framing::NonBlankLines), [(1, 3, some("a")), (2, 6, some("b"))]);
    assert_eq!(source.records(Framing::NonBlankLines).unwrap().index().unwrap().len(), 2);
    assert_eq!(source.records(Framing::Lines).unwrap().index().unwrap().len(), 8);
}

#[test]
fn other_encodings_are_refused_by_name() {
    let utf16 = |text: &str, le: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if le { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    };
    let named = |bytes: &[u8]| check_encoding(bytes).err().map(|failure| (failure.code, failure.what));
    let expected = Some((Code::Encoding, "is UTF-16, not UTF-8".to_owned()));
    for text in ["\u{feff}{\"custom_id\": 1}", "{\"custom_id\": 1}"] {
        for le in [true, false] {
            assert_eq!(named(&utf16(text, le)), expected);
        }
    }
    let utf32: Vec<u8> = "\u{feff}{\"".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    assert_eq!(named(&utf32).unwrap().1, "is UTF-32, not UTF-8");
    for fine in [&b""[..], b"{", b"{\"a\": 1}", b"\xff\xfe{}\n{}", b"\0\0\0\0", b"\xef\xbb\xbf{}", "é€".as_bytes()] {
        assert_eq!(named(fine), None, "{fine:?}");
    }
}

#[test]
fn the_hash_is_that_of_the_whole_file() {
    let (_file, source) = source(b"abc");
    let contents = source.records(Framing::Lines).unwrap().index().unwrap();
    assert_eq!(contents.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(contents.len(), 1);
    assert!(InputFile::open(std::path::Path::new("/dev/null")).is_err());
    assert_eq!(source.head().unwrap(), b"abc");
}

#[test]
fn equal_records_have_different_keys() {
    let keys = |text: &[u8]| {
        let (_file, source) = source(text);
        source.records(Framing::Lines).unwrap().index().unwrap().keys
    };
    let one = keys(b"a\nb\na\na\n");
    assert_eq!(one.iter().collect::<HashSet<_>>().len(), 4);
    let other = keys(b"b\na\na\na");
    assert_eq!(one.iter().collect::<HashSet<_>>(), other.iter().collect::<HashSet<_>>());
    assert_eq!(one[1], other[0]);
    let (_file, source) = source(b"a\nb\na\na\n");
    let contents = source.records(Framing::Lines).unwrap().index().unwrap();
    let mut again = source.indexed_records(Framing::Lines, &contents).unwrap();
    let mut read = Vec::new();
    while let Some(item) = again.next().unwrap() {
        read.push(item.key);
    }
    assert_eq!(read, contents.keys, "alike when they are read again");
}

#[test]
fn the_elements_of_an_array_are_records() {
    let text = "\u{feff} [\n {\"a\": \"]},{\\\"\"},\n\n 7 , [1,[2]]\n]\n";
    let (_file, source) = source(text.as_bytes());
    let some = |text: &str| Some(text.to_owned());
    let expected = [(1, 2, some("{\"a\": \"]},{\\\"\"}")), (2, 4, some("7")), (3, 4, some("[1,[2]]"))];
    assert_eq!(read(&source, Framing::JsonArray), expected);
}

#[test]
fn a_malformed_array_is_an_error() {
    for text in ["", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1] x", "[\"a]", "[{\"a\":1]"] {
        let (_file, source) = source(text.as_bytes());
        let failure = source.records(Framing::JsonArray).unwrap().index().unwrap_err();
        assert_eq!(failure.code, Code::InputJson, "{text}");
    }
    for (text, n) in [("[]", 0), (" [ ] ", 0), ("[1 2]", 1), ("[{\"a\":}]", 1)] {
        let (_file, source) = source(text.as_bytes());
        assert_eq!(source.records(Framing::JsonArray).unwrap().index().unwrap().len(), n, "{text}");
    }
}

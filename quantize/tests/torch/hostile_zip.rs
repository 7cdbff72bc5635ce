//! Invalid zip structures of `.bin` files, one row each, and truncated files.

use super::{convert_bin, refused};
use crate::fixtures;
use crate::fixtures::torch::{Member, Pickle, View, Zip, bin, member, members, zip};
use std::fs;
use tulu_quantize::{Checkpoint, Code};

#[test]
fn well_formed_file_converts() {
    let tensors = fixtures::Checkpoint::small(1).tensors();
    convert_bin(&bin("BF16", &tensors).bytes).unwrap();
}

/// The well-formed file with changed members.
fn changed(change: impl FnOnce(&mut Vec<Member>)) -> Vec<u8> {
    let tensors = fixtures::Checkpoint::small(1).tensors();
    let kind = "BFloat16Storage";
    let entries = tensors.iter().enumerate().map(|(i, (name, shape, _))| (name.as_str(), View::whole(kind, i, shape)));
    let storages: Vec<Vec<u8>> = tensors.iter().map(|(.., bytes)| bytes.clone()).collect();
    let mut all = members(&Pickle::state(entries), &storages);
    change(&mut all);
    zip(&all).bytes
}

/// The well-formed file with changed bytes.
fn patched(change: impl FnOnce(&mut Zip)) -> Vec<u8> {
    let mut zip = bin("BF16", &fixtures::Checkpoint::small(1).tensors());
    change(&mut zip);
    zip.bytes
}

fn put(zip: &mut Zip, at: usize, bytes: &[u8]) {
    zip.bytes[at..at + bytes.len()].copy_from_slice(bytes);
}

#[test]
fn zip_files_with_false_members_are_refused() {
    let rename = |i: usize, name: &'static str| changed(|all| all[i].name = name.to_owned());
    let cases: Vec<(&str, Vec<u8>, Code, &str)> = vec![
        (
            "two data.pkl",
            changed(|all| all.push(member("archive/sub/data.pkl", "x"))),
            Code::ZipDuplicate,
            "2 members named data.pkl",
        ),
        (
            "the same name twice",
            changed(|all| all.push(member("archive/data.pkl", "x"))),
            Code::ZipDuplicate,
            "archive/data.pkl",
        ),
        ("two roots", rename(2, "other/data/0"), Code::ZipName, "'other/data/0' is not under 'archive/'"),
        ("data.pkl at the top", changed(|all| all[0].name = "data.pkl".to_owned()), Code::ZipName, "data.pkl"),
        ("data.pkl too deep", changed(|all| all[0].name = "a/b/data.pkl".to_owned()), Code::ZipName, "a/b/data.pkl"),
        ("out of the folder", rename(2, "archive/../../x"), Code::ZipName, "archive/../../x"),
        ("an absolute name", rename(2, "/etc/passwd"), Code::ZipName, "/etc/passwd"),
        ("a backslash", rename(2, "archive\\data\\0"), Code::ZipName, "archive\\\\data"),
        ("a long name", changed(|all| all[2].name = format!("archive/{}", "a".repeat(600))), Code::ZipName, "aaa'"),
        ("a NUL", rename(2, "archive/data/0\0.txt"), Code::ZipName, "\\x00"),
        ("an escape", rename(2, "archive/\x1b[2J"), Code::ZipName, "\\x1b[2J"),
        ("big-endian", changed(|all| all[1] = member("archive/byteorder", "big")), Code::TorchEndian, "'big'"),
        (
            "version 0",
            changed(|all| *all.last_mut().unwrap() = member("archive/version", "0\n")),
            Code::TorchVersion,
            "'0\\n'",
        ),
        (
            "version x",
            changed(|all| *all.last_mut().unwrap() = member("archive/version", "x")),
            Code::TorchVersion,
            "'x'",
        ),
        (
            "a long version",
            changed(|all| *all.last_mut().unwrap() = member("archive/version", vec![b'3'; 100])),
            Code::PickleLimit,
            "100 bytes",
        ),
        ("no storage", changed(|all| drop(all.remove(2))), Code::TorchStorage, "storage '0'"),
        ("a wrong sum of data.pkl", changed(|all| all[0].crc ^= 1), Code::ZipCrc, "archive/data.pkl"),
        ("a wrong sum of weights", changed(|all| all[4].crc ^= 1), Code::ZipCrc, "archive/data/2"),
    ];
    for (case, bytes, code, place) in cases {
        refused(case, &bytes, code, place);
    }
}

#[test]
fn zip_members_with_false_headers_are_refused() {
    let cases: Vec<(&str, Vec<u8>, Code, &str)> = vec![
        (
            "deflate",
            patched(|z| {
                let (header, line) = (z.headers[3], z.lines[3]);
                put(z, header + 8, &[8]);
                put(z, line + 10, &[8]);
            }),
            Code::ZipMethod,
            "archive/data/1",
        ),
        (
            "encrypted",
            patched(|z| {
                let (header, line) = (z.headers[3], z.lines[3]);
                put(z, header + 6, &[9]);
                put(z, line + 8, &[9]);
            }),
            Code::ZipMethod,
            "encrypted",
        ),
        ("deflate in the header only", patched(|z| put(z, z.headers[3] + 8, &[8])), Code::ZipHeader, "archive/data/1"),
        (
            "another name in the header",
            patched(|z| put(z, z.headers[3] + 30, b"A")),
            Code::ZipHeader,
            "a different name",
        ),
        (
            "another length in the header",
            patched(|z| put(z, z.headers[3] + 18, &[9])),
            Code::ZipHeader,
            "length or CRC-32",
        ),
        (
            "another sum in the header",
            patched(|z| put(z, z.headers[3] + 14, &[9])),
            Code::ZipHeader,
            "length or CRC-32",
        ),
        (
            "another sum after the data",
            patched(|z| put(z, z.headers[3] - 12, &[9, 9, 9, 9])),
            Code::ZipHeader,
            "archive/data/0",
        ),
        (
            "another length after the data",
            patched(|z| put(z, z.headers[3] - 4, &[9])),
            Code::ZipHeader,
            "archive/data/0",
        ),
    ];
    for (case, bytes, code, place) in cases {
        refused(case, &bytes, code, place);
    }
}

#[test]
fn zip_files_with_false_directories_are_refused() {
    let cases: Vec<(&str, Vec<u8>, Code, &str)> = vec![
        ("compressed to less", patched(|z| put(z, z.lines[3] + 20, &[1])), Code::ZipMethod, "archive/data/1"),
        ("no header there", patched(|z| put(z, z.lines[3] + 42, &[1])), Code::ZipHeader, "archive/data/1"),
        (
            "a header beyond the end",
            patched(|z| put(z, z.lines[3] + 42, &[0xfe, 0xff, 0xff, 0x7f])),
            Code::ZipHeader,
            "archive/data/1",
        ),
        (
            "more than the file has",
            patched(|z| {
                let at = z.lines[3];
                put(z, at + 20, &[0xfe, 0xff, 0xff, 0x7f, 0xfe, 0xff, 0xff, 0x7f])
            }),
            Code::ZipHeader,
            "archive/data/1",
        ),
        (
            "a number of members",
            patched(|z| {
                let at = z.lines[z.lines.len() - 1] + 46 + 15 + 24;
                put(z, at, &[3]);
                put(z, at + 8, &[3]);
                let end = z.end;
                put(z, end + 8, &[3, 0, 3]);
            }),
            Code::ZipDirectory,
            "3",
        ),
        ("bytes behind", [patched(|_| {}), b"more".to_vec()].concat(), Code::ZipDirectory, "the zip end record says"),
        ("bytes before", [b"PK\x03\x04".to_vec(), patched(|_| {})].concat(), Code::ZipDirectory, "directory"),
        ("a directory that overlaps", overlapping(), Code::ZipOverlap, "archive/data/0"),
    ];
    for (case, bytes, code, place) in cases {
        refused(case, &bytes, code, place);
    }
}

/// A file in which the header of one member is inside the data of another.
fn overlapping() -> Vec<u8> {
    let inner = zip(&[member("archive/data/0", vec![7; 16])]);
    let inside = inner.bytes[..inner.lines[0]].to_vec();
    let all =
        [member("archive/data.pkl", "}."), member("archive/padding", inside), member("archive/data/0", vec![7; 16])];
    let mut outer = zip(&all);
    let header = (outer.data[1] as u32).to_le_bytes();
    let line = outer.lines[2];
    put(&mut outer, line + 42, &header);
    outer.bytes
}

/// The file is truncated at every byte of the structure, and at some bytes of the data.
#[test]
fn truncated_file_is_refused_at_every_length() {
    let whole = bin("BF16", &fixtures::Checkpoint::small(1).tensors());
    let around =
        [&whole.headers, &whole.data, &whole.lines].into_iter().flatten().flat_map(|at| at.saturating_sub(2)..at + 3);
    let mut cuts: Vec<usize> = around.chain(whole.lines[0]..whole.bytes.len()).collect();
    cuts.retain(|n| *n < whole.bytes.len());
    assert!(cuts.len() > 1000);
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::small(1).write_beside(dir.path());
    for n in cuts {
        fs::write(dir.path().join("pytorch_model.bin"), &whole.bytes[..n]).unwrap();
        let err = Checkpoint::open(dir.path()).expect_err("it is cut");
        assert!(matches!(err.code, Code::ZipDirectory | Code::TorchFormat), "{n}: {err}");
    }
}

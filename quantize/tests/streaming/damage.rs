//! Streaming conversion finds wrong bytes and headers, and downloads only the damaged files again.

use super::{AROUND, Case};
use std::sync::atomic::Ordering;
use tulu_quantize::Code;

#[test]
fn corrupt_byte_refetches_one_file_only() {
    for (case, ending) in [(Case::safetensors(), ".safetensors"), (Case::bin(), ".bin")] {
        let mut names: Vec<&String> = case.server.files.keys().collect();
        names.sort();
        let (second, len) = (names[1].clone(), case.server.files[names[1]].len() as u64);
        assert!(second.ends_with(ending));
        // the lowest bit of a weight: the weight stays finite, so only the SHA-256 detects the change
        *case.server.corrupt.lock().unwrap() = Some((second.clone(), len / 2));
        let err = case.run().unwrap_err();
        assert!(matches!(err.code, Code::Sha256 | Code::ZipCrc), "{err}");
        assert!(err.file.ends_with(&second) && !err.to_string().contains('\n'), "{err}");
        case.is_not_done();
        *case.server.corrupt.lock().unwrap() = None;
        case.server.requests.lock().unwrap().clear();
        case.run().unwrap();
        case.is_done();
        let requests = case.server.requests.lock().unwrap();
        let of = |name: &String| requests.iter().filter(|(n, _)| n == name).map(|(_, r)| r.end - r.start).sum::<u64>();
        assert!(of(&second) >= len, "the file in doubt is fetched anew");
        assert!(of(names[0]) <= AROUND, "the one before it is not: {}", of(names[0]));
    }
}

#[test]
fn corrupt_byte_in_the_first_file_leaves_no_files() {
    let case = Case::safetensors();
    let mut names: Vec<&String> = case.server.files.keys().collect();
    names.sort();
    let len = case.server.files[names[0]].len() as u64;
    *case.server.corrupt.lock().unwrap() = Some((names[0].clone(), len - 2));
    let err = case.run().unwrap_err();
    assert_eq!(err.code, Code::Sha256, "{err}");
    assert!(case.names().is_empty(), "{:?}", case.names());
}

/// Swaps the names of two matrices of the same shape in the header of `file`; all offsets stay valid.
fn swapped(file: &[u8]) -> Vec<u8> {
    let [q, o] = [&b"layers.0.self_attn.q_proj"[..], b"layers.0.self_attn.o_proj"];
    let at = |name: &[u8]| file.windows(name.len()).position(|part| part == name).unwrap();
    let (mut bytes, places) = (file.to_vec(), [at(q), at(o)]);
    bytes[places[0]..][..o.len()].copy_from_slice(o);
    bytes[places[1]..][..q.len()].copy_from_slice(q);
    bytes
}

/// [`swapped`] for the pickle of a `.bin` file; all its CRC-32s are corrected.
fn swapped_in_pickle(file: &[u8]) -> Vec<u8> {
    let end = file.windows(3).position(|part| part == b"u.P").unwrap() + 2;
    let begin = file.windows(3).position(|part| part == b"\x80\x02c").unwrap();
    let mut bytes = swapped(file);
    let [old, new] = [file, &bytes].map(|all| crc32fast::hash(&all[begin..end]).to_le_bytes());
    let places: Vec<usize> = (0..bytes.len() - 3).filter(|at| bytes[*at..*at + 4] == old).collect();
    assert_eq!(places.len(), 2, "behind the member and in the directory");
    places.iter().for_each(|at| bytes[*at..*at + 4].copy_from_slice(&new));
    bytes
}

#[test]
fn wrong_header_is_found_by_the_hash_of_the_file() {
    type Lie = fn(&[u8]) -> Vec<u8>;
    for (case, lie) in [(Case::safetensors(), swapped as Lie), (Case::bin(), swapped_in_pickle)] {
        let has_it = |bytes: &[u8]| bytes.windows(25).any(|part| part == b"layers.0.self_attn.q_proj");
        let (name, bytes) = case.server.files.iter().find(|(_, bytes)| has_it(bytes)).unwrap();
        case.server.lies.lock().unwrap().insert(name.clone(), lie(bytes));
        let err = case.run().unwrap_err();
        assert_eq!(err.code, Code::Sha256, "{err}");
        assert!(err.file.ends_with(name) && err.what.contains("differs from an earlier download"), "{err}");
        case.is_not_done();
        case.run().unwrap();
        case.is_done();
    }
}

/// The run with the wrong header stops before the file is complete.
#[test]
fn resume_discards_data_converted_with_a_wrong_header() {
    for (case, lie) in [(Case::safetensors(), swapped as fn(&[u8]) -> Vec<u8>), (Case::bin(), swapped_in_pickle)] {
        let mut names: Vec<&String> = case.server.files.keys().collect();
        names.sort();
        let first = names[0].clone();
        case.server.slow.store(20, Ordering::SeqCst);
        for requests in [3, 6, 9] {
            let bytes = &case.server.files[&first];
            case.server.lies.lock().unwrap().insert(first.clone(), lie(bytes));
            case.server.fail_after_long.store(requests, Ordering::SeqCst);
            case.run().unwrap_err();
            case.is_not_done();
        }
        case.server.fail_after_long.store(usize::MAX, Ordering::SeqCst);
        case.server.slow.store(0, Ordering::SeqCst);
        case.server.lies.lock().unwrap().clear();
        case.run().unwrap();
        case.is_done();
    }
}

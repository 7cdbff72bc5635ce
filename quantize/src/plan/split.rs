//! Divides the tensors of an output into parts of a split file, as llama-gguf-split does.

use crate::gguf::Value;
use std::ops::Range;

/// Returns the tensors of each part: a part begins when the tensors would have more than `max` bytes together. `sizes`
/// are the padded lengths of the tensors, `before` the bytes of tensors that come first in the first part. A tensor that
/// is larger than `max` has a part of its own.
pub(super) fn ranges(sizes: &[u64], before: u64, max: u64) -> Vec<Range<usize>> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, before);
    for (i, size) in sizes.iter().enumerate() {
        let with_this = bytes.saturating_add(*size);
        if with_this > max && i > begin {
            parts.push(begin..i);
            (begin, bytes) = (i, *size);
        } else {
            bytes = with_this;
        }
    }
    parts.push(begin..sizes.len());
    parts
}

/// Returns the keys of part `number` (from 0) of `count`.
pub(super) fn keys(number: usize, count: usize, tensors: usize) -> Vec<(String, Value)> {
    let short = |n: usize| Value::U16(u16::try_from(n).unwrap_or(u16::MAX));
    vec![
        ("split.no".to_owned(), short(number)),
        ("split.count".to_owned(), short(count)),
        ("split.tensors.count".to_owned(), Value::I32(i32::try_from(tensors).unwrap_or(i32::MAX))),
    ]
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn begins_a_part_where_the_next_tensor_would_be_too_much() {
        assert_eq!(ranges(&[4, 4, 4, 4], 0, 8), [0..2, 2..4]);
        assert_eq!(ranges(&[4, 4, 4], 2, 8), [0..1, 1..3]);
        assert_eq!(ranges(&[9, 1, 9, 9], 0, 8), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(ranges(&[1, 2, 3], 0, 100), [0..3]);
        assert_eq!(ranges(&[], 0, 1), [0..0]);
    }
}

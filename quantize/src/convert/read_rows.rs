//! Reads the bytes of rows of a tensor. A contiguous tensor is one read. For a view (transposed, or a slice of
//! columns), spans are read along the dimension with the smaller stride, and the elements are copied out of them. The
//! length of a span is limited, which bounds the memory; repeated reads come from the operating system's cache.

use crate::checkpoint::{Shard, SourceTensor};
use crate::error::{Code, Error, Result};
use crate::integers::to_usize;
use std::io;

/// Longest span in bytes.
const MAX_SPAN: u64 = 1 << 20;

/// A range of rows of a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRange {
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Elements per row.
    pub(crate) columns: u64,
}

/// Fills a buffer from an offset of a file.
pub(crate) type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// Fills `bytes` with `rows` of `from`, row by row; `read` reads from `shard`.
pub(crate) fn read(
    shard: &Shard,
    read: &ReadAt<'_>,
    from: &SourceTensor,
    rows: RowRange,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    let row_bytes = from.dtype.row_bytes(to_usize(rows.columns)).map_err(|err| {
        Error::new(Code::Type, &shard.path, format!("tensor '{}': {err}", from.name), "the file is damaged")
    })? as u64;
    bytes.resize(to_usize(rows.count * row_bytes), 0);
    match from.strides.as_deref() {
        None => read_at(shard, read, &from.name, bytes, from.offset + rows.first * row_bytes),
        Some([column]) => gather(shard, read, from, rows, [0, *column], bytes),
        Some([row, column]) => gather(shard, read, from, rows, [*row, *column], bytes),
        // the plan accepts vectors and matrices only
        Some(_) => {
            Err(Error::new(Code::Engine, &shard.path, format!("tensor '{}' is not a matrix", from.name), "report this"))
        }
    }
}

/// Fills `bytes` from `offset`; `name` is the tensor or storage in errors.
pub(crate) fn read_at(shard: &Shard, read: &ReadAt<'_>, name: &str, bytes: &mut [u8], offset: u64) -> Result<()> {
    read(bytes, offset).map_err(|err| {
        if err.kind() == std::io::ErrorKind::UnexpectedEof {
            let what = format!("ended within '{name}' while it was read");
            Error::new(Code::InputChanged, &shard.path, what, "run it again when nothing writes to the file")
        } else {
            Error::io(&shard.path, &format!("read '{name}' at byte {offset}"), &err)
        }
    })
}

/// A dimension: number of elements, and their strides in the file and in the chunk (in elements).
#[derive(Clone, Copy)]
struct Dimension {
    count: u64,
    stride: u64,
    to: u64,
}

/// Reads a view; `row` and `column` are its strides in elements.
fn gather(
    shard: &Shard,
    read: &ReadAt<'_>,
    from: &SourceTensor,
    rows: RowRange,
    [row, column]: [u64; 2],
    bytes: &mut [u8],
) -> Result<()> {
    let width = from.dtype.block_bytes() as u64;
    let start = from.offset + rows.first * row * width;
    let down = Dimension { count: rows.count, stride: row, to: rows.columns };
    let across = Dimension { count: rows.columns, stride: column, to: 1 };
    // a dimension of one element has no meaningful stride, so it is the outer one
    let across_is_inner = down.count <= 1 || (across.count > 1 && across.stride <= down.stride);
    let (outer, inner) = if across_is_inner { (down, across) } else { (across, down) };
    let per_span = (MAX_SPAN / (inner.stride * width).max(1)).max(1);
    let mut span = Vec::new();
    for i in 0..outer.count {
        let mut done = 0;
        while done < inner.count {
            let n = per_span.min(inner.count - done);
            span.resize(to_usize(((n - 1) * inner.stride + 1) * width), 0);
            read_at(shard, read, &from.name, &mut span, start + (i * outer.stride + done * inner.stride) * width)?;
            for j in 0..n {
                let here = to_usize(j * inner.stride * width);
                let there = to_usize((i * outer.to + (done + j) * inner.to) * width);
                let width = to_usize(width);
                bytes[there..there + width].copy_from_slice(&span[here..here + width]);
            }
            done += n;
        }
    }
    Ok(())
}

//! The bytes of some rows of a tensor, wherever in its file they lie.
//!
//! Nearly always they lie one after another and are one read. A view (transposed, or a slice of columns) is gathered:
//! along the dimension whose elements are closer together a span is read, and the elements are picked out of it. Spans
//! are cut to a bound, so memory stays that of a chunk; it is the operating system's cache that makes this bearable.

use crate::checkpoint::{Shard, SourceTensor};
use crate::error::{Code, Error, Result};
use std::io;

/// Bytes of a span that elements are picked out of.
const MAX_SPAN: u64 = 1 << 20;

/// Which rows of a tensor are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRange {
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Elements of each.
    pub(crate) columns: u64,
}

/// Fills a buffer with the bytes of a file from an offset.
pub(crate) type ReadAt<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;

/// Fills `bytes` with `rows` of `from`, row by row; `read` gives the bytes of `shard`.
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
        // the plan lets nothing through but vectors and matrices
        Some(_) => Err(Error::new(Code::Engine, &shard.path, format!("{}: no matrix", from.name), "report this")),
    }
}

/// Fills `bytes` from `offset`; `name` is what is read.
pub(crate) fn read_at(shard: &Shard, read: &ReadAt<'_>, name: &str, bytes: &mut [u8], offset: u64) -> Result<()> {
    read(bytes, offset).map_err(|err| {
        if err.kind() == std::io::ErrorKind::UnexpectedEof {
            let what = format!("ended at '{name}' while it was read");
            Error::new(Code::InputChanged, &shard.path, what, "run it again when the file is at rest")
        } else {
            Error::io(&shard.path, &format!("read '{name}' at byte {offset}"), &err)
        }
    })
}

/// One of the two dimensions: how many elements, how far apart in the file and in the chunk (in elements).
#[derive(Clone, Copy)]
struct Dimension {
    count: u64,
    stride: u64,
    to: u64,
}

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
    // the stride of a single element means nothing, so that dimension is the outer one
    let across_is_inner = down.count <= 1 || (across.count > 1 && across.stride <= down.stride);
    let (outer, inner) = if across_is_inner { (down, across) } else { (across, down) };
    let piece = (MAX_SPAN / (inner.stride * width).max(1)).max(1);
    let mut span = Vec::new();
    for i in 0..outer.count {
        let mut done = 0;
        while done < inner.count {
            let n = piece.min(inner.count - done);
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

/// Bounded by a chunk or a span.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

//! Splits the weight files into segments, the unit of download. Segments cover all bytes in file order, and their
//! boundaries never split a tensor chunk.

use crate::checkpoint::Checkpoint;
use crate::convert::Chunk;
use crate::plan::Plan;
use std::ops::Range;

/// Longest segment in bytes. Tensors that share a storage are in one segment, because they are converted from the same
/// bytes.
const MAX_SEGMENT: u64 = 64 << 20;

/// Limit on the number of segments, because the lengths come from a server. Real files have some thousands.
const MAX_SEGMENTS: u64 = 1 << 20;

/// A range of one file that is fetched in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Index into [`Checkpoint::shards`].
    pub(super) shard: usize,
    /// Position in the file.
    pub(super) span: Range<u64>,
    /// The chunks in it; none in a header, a directory or unused bytes.
    pub(super) chunks: Range<usize>,
    /// Whether it is the last segment of its file.
    pub(super) last: bool,
}

impl Segment {
    pub(super) fn len(&self) -> u64 {
        self.span.end - self.span.start
    }
}

/// All segments, in file order.
#[derive(Debug)]
pub(super) struct Segments(Vec<Segment>);

impl Segments {
    /// Splits all files into segments of about `target` bytes. `None` when a tensor is a non-contiguous view, or when
    /// tensors share so many bytes that a segment would be too long.
    pub(super) fn split(source: &Checkpoint, plan: &Plan, chunks: &[Chunk], target: u64) -> Option<Self> {
        let total = source.shards.iter().try_fold(0_u64, |sum, shard| sum.checked_add(shard.len()))?;
        if total / target.max(1) > MAX_SEGMENTS {
            return None;
        }
        let mut splitter = Splitter { target, all: Vec::new() };
        let mut next = 0;
        for (shard, file) in source.shards.iter().enumerate() {
            let mut open = 0..0;
            let mut first_chunk = next;
            while let Some((at, span)) = chunks.get(next).and_then(|chunk| span(source, plan, chunk)) {
                if at != shard {
                    break;
                }
                if span.start >= open.end {
                    if open.end - open.start >= target {
                        splitter.push(shard, open.clone(), first_chunk..next);
                        (open.start, first_chunk) = (open.end, next);
                    }
                    if span.start - open.start >= 2 * target {
                        // unused bytes are fetched too, because the file's hash covers them
                        splitter.push(shard, open.clone(), first_chunk..next);
                        splitter.fill(shard, open.end..span.start, next);
                        (open.start, first_chunk) = (span.start, next);
                    }
                }
                open.end = open.end.max(span.end);
                next += 1;
            }
            splitter.push(shard, open.clone(), first_chunk..next);
            splitter.fill(shard, open.end..file.len(), next);
            splitter.all.last_mut()?.last = true;
        }
        let fits = next == chunks.len() && splitter.all.iter().all(|s| s.len() <= MAX_SEGMENT.max(2 * target));
        fits.then_some(Self(splitter.all))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, number: usize) -> Option<&Segment> {
        self.0.get(number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter()
    }

    /// Returns the segment of `shard` with byte `offset`.
    pub(super) fn at_offset(&self, shard: usize, offset: u64) -> Option<usize> {
        self.0.partition_point(|s| (s.shard, s.span.start) <= (shard, offset)).checked_sub(1)
    }

    /// Returns the segment with chunk `chunk`.
    pub(super) fn of_chunk(&self, chunk: usize) -> Option<usize> {
        let number = self.0.partition_point(|s| s.chunks.end <= chunk);
        self.0.get(number).is_some_and(|s| s.chunks.contains(&chunk)).then_some(number)
    }

    /// Returns the bytes before segment `number`.
    pub(super) fn bytes_before(&self, number: usize) -> u64 {
        self.0.iter().take(number).map(Segment::len).sum()
    }

    /// Returns the first segment of a file.
    pub(super) fn first_of_shard(&self, shard: usize) -> usize {
        self.0.partition_point(|s| s.shard < shard)
    }

    /// Returns the first chunk that is in segment `number` or a later one.
    pub(super) fn first_chunk(&self, number: usize) -> usize {
        self.0
            .get(number)
            .or(self.0.last())
            .map_or(0, |s| if number < self.len() { s.chunks.start } else { s.chunks.end })
    }
}

struct Splitter {
    target: u64,
    all: Vec<Segment>,
}

impl Splitter {
    fn push(&mut self, shard: usize, span: Range<u64>, chunks: Range<usize>) {
        if !span.is_empty() {
            self.all.push(Segment { shard, span, chunks, last: false });
        }
    }

    /// Adds segments for bytes without chunks.
    fn fill(&mut self, shard: usize, span: Range<u64>, chunk: usize) {
        let mut at = span.start;
        while at < span.end {
            let end = span.end.min(at + self.target);
            self.push(shard, at..end, chunk..chunk);
            at = end;
        }
    }
}

/// Returns shard and position of a chunk; `None` when its bytes are not contiguous.
fn span(source: &Checkpoint, plan: &Plan, chunk: &Chunk) -> Option<(usize, Range<u64>)> {
    let planned = &plan.tensors[chunk.tensor];
    let tensor = &source.tensors[planned.source];
    if tensor.strides.is_some() {
        return None;
    }
    let row = planned.source_bytes / planned.n_rows().max(1);
    let begin = tensor.offset + row * chunk.first_row;
    Some((tensor.shard, begin..begin + row * chunk.rows))
}

//! The weight files cut into segments: all of their bytes, in order, with the cuts where no chunk of a tensor is cut.

use crate::checkpoint::Checkpoint;
use crate::convert::Chunk;
use crate::plan::Plan;
use std::ops::Range;

/// A segment is no longer than this: tensors that share a storage are in one, as they need the same bytes.
const MAX_SEGMENT: u64 = 64 << 20;

/// Segments of a checkpoint, at most: the lengths are a server's word, and real files make some thousands.
const MAX_SEGMENTS: u64 = 1 << 20;

/// A run of bytes of one file that is fetched at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Index into [`Checkpoint::shards`].
    pub(super) shard: usize,
    /// Where it lies in the file.
    pub(super) span: Range<u64>,
    /// The chunks that lie in it; none in a header, a directory, or what is skipped.
    pub(super) chunks: Range<usize>,
    /// Whether the file ends with it.
    pub(super) last: bool,
}

impl Segment {
    pub(super) fn len(&self) -> u64 {
        self.span.end - self.span.start
    }
}

/// All segments, in the order of the files.
#[derive(Debug)]
pub(super) struct Segments(Vec<Segment>);

impl Segments {
    /// Cuts all files into segments of about `target` bytes. `None` when a tensor does not lie in one piece, or so many
    /// share their bytes that a segment would be too long.
    pub(super) fn split(source: &Checkpoint, plan: &Plan, chunks: &[Chunk], target: u64) -> Option<Self> {
        let total = source.shards.iter().try_fold(0_u64, |sum, shard| sum.checked_add(shard.len()))?;
        if total / target.max(1) > MAX_SEGMENTS {
            return None;
        }
        let mut splitter = Splitter { target, all: Vec::new() };
        let mut next = 0;
        for (shard, file) in source.shards.iter().enumerate() {
            let mut open = 0..0;
            let mut begun = next;
            while let Some((at, span)) = chunks.get(next).and_then(|chunk| span(source, plan, chunk)) {
                if at != shard {
                    break;
                }
                if span.start >= open.end {
                    if open.end - open.start >= target {
                        splitter.push(shard, open.clone(), begun..next);
                        (open.start, begun) = (open.end, next);
                    }
                    if span.start - open.start >= 2 * target {
                        // what is skipped is fetched for the sake of the file's hash, in segments of its own
                        splitter.push(shard, open.clone(), begun..next);
                        splitter.fill(shard, open.end..span.start, next);
                        (open.start, begun) = (span.start, next);
                    }
                }
                open.end = open.end.max(span.end);
                next += 1;
            }
            splitter.push(shard, open.clone(), begun..next);
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

    /// The segment of `shard` that byte `offset` lies in.
    pub(super) fn at_offset(&self, shard: usize, offset: u64) -> Option<usize> {
        self.0.partition_point(|s| (s.shard, s.span.start) <= (shard, offset)).checked_sub(1)
    }

    /// The segment that holds chunk `chunk`.
    pub(super) fn of_chunk(&self, chunk: usize) -> Option<usize> {
        let number = self.0.partition_point(|s| s.chunks.end <= chunk);
        self.0.get(number).is_some_and(|s| s.chunks.contains(&chunk)).then_some(number)
    }

    /// Bytes before segment `number`.
    pub(super) fn bytes_before(&self, number: usize) -> u64 {
        self.0.iter().take(number).map(Segment::len).sum()
    }

    /// The first segment of a file.
    pub(super) fn first_of_shard(&self, shard: usize) -> usize {
        self.0.partition_point(|s| s.shard < shard)
    }

    /// The first chunk that does not lie before segment `number`.
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

    /// Cuts bytes without chunks.
    fn fill(&mut self, shard: usize, span: Range<u64>, chunk: usize) {
        let mut at = span.start;
        while at < span.end {
            let end = span.end.min(at + self.target);
            self.push(shard, at..end, chunk..chunk);
            at = end;
        }
    }
}

/// Which file a chunk's bytes are in, and where; `None` when they do not lie one after another.
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

//! Writes the separators of an output: array brackets and commas, or newlines. Sorts records if the format has an
//! order.

use super::format::Format;
use super::input::Framing;
use super::record::SortKey;
use std::io::{self, Write};
use std::path::Path;

/// Writes records with their separators.
#[derive(Debug)]
pub(super) struct OutputFraming {
    pub(super) format: Format,
    array: bool,
    n: u64,
    /// Records of a format with its own order, kept until the end.
    to_sort: Vec<(SortKey, Vec<u8>)>,
}

impl OutputFraming {
    pub(super) fn new(format: Format, output: &Path) -> Self {
        Self { format, array: format.output_framing(output) == Framing::JsonArray, n: 0, to_sort: Vec::new() }
    }

    pub(super) fn put(&mut self, record: &[u8], out: &mut impl Write) -> io::Result<()> {
        match self.format.sort_key(record) {
            Some(sort_key) => self.to_sort.push((sort_key, record.to_owned())),
            None => self.write(record, out)?,
        }
        Ok(())
    }

    fn write(&mut self, record: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.array {
            out.write_all(if self.n == 0 { b"[\n" } else { b",\n" })?;
        }
        self.n += 1;
        out.write_all(record)?;
        if self.array { Ok(()) } else { out.write_all(b"\n") }
    }

    pub(super) fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut sorted = std::mem::take(&mut self.to_sort);
        sorted.sort();
        for (_, record) in sorted {
            self.write(&record, out)?;
        }
        match (self.array, self.n) {
            (false, _) => Ok(()),
            (true, 0) => out.write_all(b"[]\n"),
            (true, _) => out.write_all(b"\n]\n"),
        }
    }
}

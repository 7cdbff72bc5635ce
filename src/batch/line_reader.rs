//! Reads records that are one line each.

use super::record_buffer::RecordBuffer;
use std::io::{self, BufRead};

/// Reads the next line into `buffer`, without its newline, and returns its number. `line` is the next line's number.
pub(super) fn next(reader: &mut impl BufRead, buffer: &mut RecordBuffer, line: &mut u64) -> io::Result<Option<u64>> {
    let mut read = 0;
    loop {
        let chunk = reader.fill_buf()?;
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let taken = newline.map_or(chunk.len(), |at| at + 1);
        if taken == 0 {
            break;
        }
        buffer.push(&chunk[..newline.unwrap_or(taken)]);
        reader.consume(taken);
        read += taken;
        if newline.is_some() {
            break;
        }
    }
    let number = *line;
    *line += u64::from(read > 0);
    Ok((read > 0).then_some(number))
}

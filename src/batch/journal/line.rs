//! The lines of a journal. Every line has a CRC-32, so that a damaged line is detected and does not affect the others.
//!
//! Header: `{"tulu_quant_journal":2,"crc32":"<8 digits>","input":{…},"run":{…}}`; the checksum is of everything after
//! its comma. Record: `<key>\t<ok|failed>\t<prompt tokens> <answer tokens> <crc32>\t<output record>`; the checksum is
//! of the run and all other fields, so that a record of another run is detected even if the header is damaged.

use crate::batch::identity::Identity;
use crate::batch::record_key::Key;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tulu_quantize::hex;

/// Journal format version. Version 1 had no checksums, and recorded the context size only if the user gave one.
pub(super) const VERSION: u64 = 2;
/// The start of the header in every version. A file without it is not a journal and is never changed.
pub(super) const MAGIC: &str = "{\"tulu_quant_journal\":";

/// The header: identifies the input and the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) input: InputId,
    pub(super) run: Identity,
}

/// The input when the run was started or resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputId {
    pub(super) sha256: String,
    pub(super) records: u64,
}

/// The reason why a line is not a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Its checksum or its fields are wrong.
    Damaged,
    /// It has another format version.
    Version(u64),
}

/// The line of a finished record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) key: Key,
    pub(super) ok: bool,
    /// Tokens of its prompts and of its answers.
    pub(super) tokens: (u32, u32),
    /// The output record.
    pub(super) record: &'a [u8],
    crc: u32,
}

impl Header {
    /// Formats the line, with its newline.
    pub(super) fn line(&self) -> String {
        let fields = serde_json::to_string(self).unwrap_or_default();
        let rest = fields.strip_prefix('{').unwrap_or(&fields);
        format!("{MAGIC}{VERSION},\"crc32\":\"{:08x}\",{rest}\n", crc32fast::hash(rest.as_bytes()))
    }

    /// Parses a line that begins with [`MAGIC`], without its newline.
    pub(super) fn parse(line: &[u8]) -> Result<Self, NoHeader> {
        let text = std::str::from_utf8(line).map_err(|_| NoHeader::Damaged)?;
        let rest = text.strip_prefix(MAGIC).ok_or(NoHeader::Damaged)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let version: u64 = rest[..digits].parse().map_err(|_| NoHeader::Damaged)?;
        if version != VERSION {
            // A header of another version is at least valid JSON.
            let whole = serde_json::from_str::<Value>(text).is_ok();
            return Err(if whole { NoHeader::Version(version) } else { NoHeader::Damaged });
        }
        let rest = rest[digits..].strip_prefix(",\"crc32\":\"").ok_or(NoHeader::Damaged)?;
        let (crc, rest) = rest.split_once("\",").ok_or(NoHeader::Damaged)?;
        if crc != format!("{:08x}", crc32fast::hash(rest.as_bytes())) {
            return Err(NoHeader::Damaged);
        }
        serde_json::from_str(&format!("{{{rest}")).map_err(|_| NoHeader::Damaged)
    }
}

/// Returns the initial value of the checksums of a run's records.
pub(super) fn seed(run: &Identity) -> u32 {
    crc32fast::hash(serde_json::to_string(run).unwrap_or_default().as_bytes())
}

/// Formats the line of a finished record, with its newline. Also returns the offset of the output record in it.
pub(super) fn line(seed: u32, key: Key, ok: bool, tokens: (u32, u32), record: &str) -> (String, usize) {
    let crc = checksum(seed, key, ok, tokens, record.as_bytes());
    let word = if ok { "ok" } else { "failed" };
    let before = format!("{}\t{word}\t{} {} {crc:08x}\t", hex(&key.0), tokens.0, tokens.1);
    let at = before.len();
    (before + record + "\n", at)
}

impl<'a> Line<'a> {
    /// Parses a line without its newline; does not verify its checksum.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b'\t');
        let key = key(fields.next()?)?;
        let ok = match fields.next()? {
            b"ok" => true,
            b"failed" => false,
            _ => return None,
        };
        let mut numbers = std::str::from_utf8(fields.next()?).ok()?.split(' ');
        let tokens = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        let crc = numbers.next().filter(|digits| digits.len() == 8 && digits.bytes().all(is_digit))?;
        let crc = u32::from_str_radix(crc, 16).ok()?;
        let record = fields.next().filter(|_| numbers.next().is_none())?;
        Some(Self { key, ok, tokens, record, crc })
    }

    /// Verifies the checksum for the run with this `seed`.
    pub(super) fn is_of(&self, seed: u32) -> bool {
        self.crc == checksum(seed, self.key, self.ok, self.tokens, self.record)
    }
}

fn checksum(seed: u32, key: Key, ok: bool, tokens: (u32, u32), record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(seed);
    crc.update(&key.0);
    crc.update(&[u8::from(ok)]);
    crc.update(&tokens.0.to_le_bytes());
    crc.update(&tokens.1.to_le_bytes());
    crc.update(record);
    crc.finalize()
}

fn key(digits: &[u8]) -> Option<Key> {
    if digits.len() != 32 || !digits.iter().copied().all(is_digit) {
        return None;
    }
    let mut key = [0; 16];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Key(key))
}

/// Lower-case hexadecimal digits, as they are written.
fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::{Header, InputId, Key, Line, NoHeader, line, seed};
    use crate::batch::identity::tests::identity;

    #[test]
    fn every_damaged_byte_is_detected() {
        let header = Header { input: InputId { sha256: "s".into(), records: 3 }, run: identity("m") };
        let text = header.line();
        let whole = text.trim_end().as_bytes();
        assert_eq!(Header::parse(whole), Ok(header.clone()));
        let seed = seed(&header.run);
        let (record, at) = line(seed, Key([7; 16]), true, (3, 40), "{\"a\":\"é\"}");
        let record = record.trim_end().as_bytes();
        let read = Line::parse(record).unwrap();
        assert!(read.is_of(seed) && !read.is_of(seed ^ 1), "of this run only");
        assert_eq!((read.key, read.ok, read.tokens, read.record), (Key([7; 16]), true, (3, 40), &record[at..]));
        for bit in 0..8 {
            for i in 0..whole.len() {
                let mut damaged = whole.to_vec();
                damaged[i] ^= 1 << bit;
                assert!(Header::parse(&damaged).is_err(), "bit {bit} of byte {i}");
            }
            for i in 0..record.len() {
                let mut damaged = record.to_vec();
                damaged[i] ^= 1 << bit;
                assert!(!Line::parse(&damaged).is_some_and(|line| line.is_of(seed)), "bit {bit} of byte {i}");
            }
        }
        assert_eq!(Header::parse(b"{\"tulu_quant_journal\":1,\"input\":{}}"), Err(NoHeader::Version(1)));
        assert_eq!(Header::parse(b"{\"tulu_quant_journal\":1,\"inp"), Err(NoHeader::Damaged));
    }
}

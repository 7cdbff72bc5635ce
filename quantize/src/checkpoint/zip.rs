//! Lists the members of a zip file as torch.save writes it. The rawzip crate decodes the records.
//!
//! Attacks use zip files that two programs read differently, so ambiguous archives are rejected: duplicate members,
//! local headers that contradict the central directory, overlapping members, bytes before or after the archive. Members
//! must be uncompressed, as PyTorch writes them; weights are read in place.

use super::shard::{DAMAGED, Shard};
use crate::byte_source::ByteSource;
use crate::error::{Code, Error, Result};
use rawzip::{CompressionMethod, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ReaderAt, ZipArchive, ZipLocator};
use std::collections::HashSet;

/// Limit on members; a shard has one for each tensor (723 in the 70B model) and a few more.
const MAX_MEMBERS: usize = 100_000;
/// Limit on the directory in bytes; a record has some hundred.
const MAX_DIRECTORY: u64 = 64 << 20;
/// Bytes searched for the end record. It is at the end of the file, before the comment, which PyTorch leaves empty.
const MAX_COMMENT: u64 = (1 << 16) + 64;
/// Limit on a member's name. The root folder is named after the file, so this is above a file system's limit.
const MAX_NAME: usize = 512;
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";

/// An uncompressed member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// First byte of its data, from the start of the file.
    pub(crate) offset: u64,
    /// Length of its data.
    pub(crate) len: u64,
    /// CRC-32 in the directory; 0 when PyTorch did not compute one.
    pub(crate) crc: u32,
}

/// Lists the members of the zip file `file` in file order.
pub(crate) fn members(file: &Shard) -> Result<Vec<Member>> {
    let (path, len) = (&file.path, file.len());
    let bad = |code, what: String| Error::new(code, path, what, DAMAGED);
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipLocator::new()
        .max_search_space(MAX_COMMENT)
        .locate_in_reader(SourceReader(&*file.bytes), &mut buffer, len)
        .map_err(|(_, err)| bad(Code::ZipDirectory, format!("has no end record at byte {len}, its end: {err}")))?;
    let (directory, end) = (archive.directory_offset(), archive.end_offset());
    if end != len {
        return Err(bad(Code::ZipDirectory, format!("the zip end record says {end} bytes, the file has {len}")));
    }
    if archive.eocd_offset().saturating_sub(directory) > MAX_DIRECTORY {
        return Err(bad(
            Code::ZipDirectory,
            format!("the directory at byte {directory} has over {MAX_DIRECTORY} bytes"),
        ));
    }

    let records = records(&archive, &mut buffer).map_err(|(code, what)| bad(code, what))?;
    // a range has a member's local header and, before it, the previous member's data descriptor
    let headers: Vec<_> = records.iter().map(|r| r.header.saturating_sub(24)..r.header.saturating_add(512)).collect();
    file.bytes.prefetch(&headers);
    let mut spans = Vec::with_capacity(records.len());
    for record in records {
        let at = record.header;
        spans.push(member(&archive, &mut buffer, record).map_err(|(code, what)| match code {
            Code::ZipMethod => Error::new(code, path, what, "save it again with torch.save, which compresses nothing"),
            _ => bad(code, format!("{what} (header at byte {at})")),
        })?);
    }
    spans.sort_by_key(|(header, ..)| *header);
    let mut free = 0;
    for (header, end, member) in &spans {
        if *header < free || (free == 0 && *header > 0) {
            let what = format!("member '{}' begins at byte {header}, expected {free} or later", member.name);
            return Err(bad(Code::ZipOverlap, what));
        }
        free = *end;
    }
    if free > directory {
        let what = format!("members reach to byte {free}, into the directory at byte {directory}");
        return Err(bad(Code::ZipOverlap, what));
    }
    Ok(spans.into_iter().map(|(.., member)| member).collect())
}

/// A record of the central directory.
struct Record {
    name: String,
    header: u64,
    flags: u16,
    method: CompressionMethod,
    stored: u64,
    len: u64,
    crc: u32,
    place: rawzip::ZipArchiveEntryWayfinder,
}

type ZipResult<T> = std::result::Result<T, (Code, String)>;

fn records(archive: &ZipArchive<SourceReader<'_>>, buffer: &mut [u8]) -> ZipResult<Vec<Record>> {
    let damaged = |err: rawzip::Error| (Code::ZipDirectory, format!("the directory cannot be read: {err}"));
    let mut all = Vec::new();
    let mut seen = HashSet::new();
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        let path = entry.file_path();
        let name = std::str::from_utf8(path.as_bytes()).ok().filter(|name| is_inside(name));
        let Some(name) = name.map(str::to_owned) else {
            let shown: String = path.as_bytes().escape_ascii().take(120).map(char::from).collect();
            let what = format!("a member has the invalid name '{shown}'");
            return Err((Code::ZipName, what));
        };
        if !seen.insert(name.clone()) {
            return Err((Code::ZipDuplicate, format!("the directory lists member '{name}' twice")));
        }
        if all.len() == MAX_MEMBERS {
            return Err((Code::ZipDirectory, format!("the directory has over {MAX_MEMBERS} members")));
        }
        all.push(Record {
            name,
            header: entry.local_header_offset(),
            flags: entry.flags().bits(),
            method: entry.compression_method(),
            stored: entry.compressed_size_hint(),
            len: entry.uncompressed_size_hint(),
            crc: entry.crc32(),
            place: entry.wayfinder(),
        });
    }
    if archive.entries_hint() != all.len() as u64 {
        let what = format!("the directory has {} members, the end record says {}", all.len(), archive.entries_hint());
        return Err((Code::ZipDirectory, what));
    }
    Ok(all)
}

/// Whether a name stays inside the archive's folder. Names are not used as paths here, but other programs unpack
/// archives.
fn is_inside(name: &str) -> bool {
    let plain = name.len() <= MAX_NAME && !name.contains('\\') && !name.contains(char::is_control);
    plain && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Checks a member's local header against its record. Returns the first byte of the header, the end of the member with
/// its data descriptor, and the member.
fn member(archive: &ZipArchive<SourceReader<'_>>, buffer: &mut [u8], record: Record) -> ZipResult<(u64, u64, Member)> {
    let Record { name, header, flags, method, stored, len, crc, place } = record;
    if method != CompressionMethod::STORE || stored != len {
        return Err((Code::ZipMethod, format!("member '{name}' is compressed, method {}", method.as_u16())));
    }
    let bad_header = |what: &str| (Code::ZipHeader, format!("member '{name}': {what}"));
    let entry = archive.get_entry(place).map_err(|err| bad_header(&format!("its header cannot be read: {err}")))?;
    let local = entry.local_header(buffer).map_err(|err| bad_header(&format!("its header cannot be read: {err}")))?;
    if local.flags().is_encrypted() {
        return Err((Code::ZipMethod, format!("member '{name}' is encrypted")));
    }
    if local.file_path().as_bytes() != name.as_bytes() {
        return Err(bad_header("its header has a different name than the directory"));
    }
    if local.flags().bits() != flags || local.compression_method() != method {
        return Err(bad_header("its header has different flags or a different method than the directory"));
    }
    // PyTorch writes lengths and CRC-32 into a data descriptor after the data, and zeros into the header
    let deferred = local.flags().has_data_descriptor();
    let agrees = |in_header: u64, value: u64| in_header == value || (deferred && in_header == 0);
    if !agrees(local.compressed_size_hint(), len)
        || !agrees(local.uncompressed_size_hint(), len)
        || !agrees(u64::from(local.crc32()), u64::from(crc))
    {
        return Err(bad_header("its header has a different length or CRC-32 than the directory"));
    }
    let (offset, end) = entry.compressed_data_range();
    let file = archive.get_ref();
    let held = file.0.len();
    if end > held {
        return Err(bad_header(&format!("its data would reach to byte {end}, the file has {held}")));
    }
    let after = if deferred { descriptor(file, end, len, crc) } else { Some(0) };
    let Some(end) = after.and_then(|n| end.checked_add(n)) else {
        return Err(bad_header("its data descriptor does not match the directory"));
    };
    Ok((header, end, Member { name, offset, len, crc }))
}

/// Returns the length of the data descriptor at `at` if it has these values. Its lengths have 4 or 8 bytes: PyTorch
/// uses 8 also for small members beyond the first 4 GiB, and the directory does not record which.
fn descriptor(file: &SourceReader<'_>, at: u64, len: u64, crc: u32) -> Option<u64> {
    let mut bytes = [0; 24];
    let n = file.read_at(&mut bytes, at).ok()?;
    let starts = |wanted: &[u8]| bytes[..n].starts_with(wanted).then_some(wanted.len() as u64);
    let head = [&DESCRIPTOR[..], &crc.to_le_bytes()].concat();
    let narrow = u32::try_from(len).ok().map(u32::to_le_bytes);
    let narrow = narrow.and_then(|len| starts(&[&head[..], &len, &len].concat()));
    let wide = len.to_le_bytes();
    narrow.or_else(|| starts(&[&head[..], &wide, &wide].concat()))
}

/// A byte source for rawzip.
struct SourceReader<'a>(&'a dyn ByteSource);

impl ReaderAt for SourceReader<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let left = usize::try_from(self.0.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = buf.len().min(left);
        self.0.read_exact_at(&mut buf[..n], offset)?;
        Ok(n)
    }
}

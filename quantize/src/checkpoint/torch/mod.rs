//! Reads PyTorch `.bin` files: a zip file with a pickled table of tensors and one member for each storage.
//!
//! ```text
//! ROOT/data.pkl     name → _rebuild_tensor_v2(storage "7" of n BFloat16 elements, offset, shape, strides, …)
//! ROOT/data/7       the elements, uncompressed: read in place
//! ROOT/version, ROOT/byteorder
//! ```
//!
//! ROOT is any one folder. `archive` finds the members, `state_dict` reads the tensors from the pickle.

mod archive;
mod state_dict;

use super::pickle;
use super::pickle::Pickle;
use super::shard::{DAMAGED, Shard, SourceTensor, StorageCrc};
use super::zip::Member;
use crate::error::{Code, Error, Result};
use crate::wrong_file;
use archive::Archive;

/// Reads the table of `file` and lists its tensors as those of shard number `shard`. Warnings are added to `notes`.
pub(crate) fn open(file: Shard, shard: usize, notes: &mut Vec<String>) -> Result<(Shard, Vec<SourceTensor>)> {
    check_format(&file)?;
    let archive = Archive::open(&file)?;
    let text = archive.read("data.pkl", pickle::MAX_BYTES)?.unwrap_or_default();
    let pickle = Pickle::read(&text).map_err(|err| archive.error(err))?;
    let (mut tensors, used, unused_tensors) =
        state_dict::tensors(&archive, &pickle, shard).map_err(|err| archive.error(err))?;
    tensors.sort_by_key(|t| t.offset);

    let mut crcs: Vec<StorageCrc> = Vec::new();
    let mut without_crc = 0_usize;
    for member in archive.members.iter().filter(|m| used.contains(m.name.as_str())) {
        // PyTorch writes 0 when CRC-32s are off; a real CRC-32 of 0 is one in four billion
        if member.crc == 0 && member.len > 0 {
            without_crc = without_crc.saturating_add(1);
        } else {
            let Member { name, offset, len, crc } = member.clone();
            crcs.push(StorageCrc { name, offset, len, crc });
        }
    }
    if without_crc > 0 {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        notes.push(format!("{without_crc} storages of {name} have no CRC-32: damage in them cannot be detected"));
    }
    Ok((Shard { crcs, unused_tensors, ..file }, tensors))
}

/// Checks for the zip layout; other layouts have their own errors.
fn check_format(file: &Shard) -> Result<()> {
    let mut head = [0; 512];
    let n = usize::try_from(file.len()).unwrap_or(usize::MAX).min(head.len());
    file.read(&mut head[..n], 0, "read the first bytes")?;
    let head = &head[..n];
    // magic number of the legacy layout, 0x1950a86a20f9469cfc6c as a pickle of any protocol
    let legacy =
        head.first() == Some(&0x80) && head.get(2..14) == Some(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
    let again =
        "load it with the PyTorch that wrote it, and save it again with torch.save of 1.6 or newer, or as safetensors";
    let (what, fix) = if head.starts_with(b"PK\x03\x04") {
        return Ok(());
    } else if legacy {
        ("is in PyTorch's legacy layout of before 1.6 (not a zip file), which is not supported", again)
    } else if head.get(257..262) == Some(b"ustar") {
        ("is in PyTorch's oldest layout (a tar file), which is not supported", again)
    } else if let Some(instead) = wrong_file::instead(head) {
        instead
    } else {
        ("does not begin like a zip file, so torch.save did not write it", DAMAGED)
    };
    Err(Error::new(Code::TorchFormat, &file.path, what, fix))
}

//! Finds the members of a `.bin` file by their names under its root folder, and reads small ones.

use crate::checkpoint::pickle::PickleError;
use crate::checkpoint::shard::{DAMAGED, Shard, crc_mismatch};
use crate::checkpoint::zip::{self, Member};
use crate::error::{Code, Error, Result};
use std::collections::HashMap;

/// Versions that PyTorch reads (`kMinSupportedFileFormatVersion` and its maximum).
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=10;
/// Limit on `version` and `byteorder`, which have a few bytes.
const MAX_SHORT_MEMBER: u64 = 64;

const ONLY_TENSORS: &str = "only tensors are loaded; nothing was executed";

/// The members under the root folder.
pub(super) struct Archive<'a> {
    shard: &'a Shard,
    /// Name of the root folder, with a slash at its end.
    root: String,
    pub(super) members: Vec<Member>,
    by_name: HashMap<String, usize>,
}

impl<'a> Archive<'a> {
    pub(super) fn open(shard: &'a Shard) -> Result<Self> {
        let path = &shard.path;
        let bad = |code, what: String| Error::new(code, path, what, DAMAGED);
        let members = zip::members(shard)?;
        let roots: Vec<&str> = members.iter().filter_map(|m| m.name.strip_suffix("data.pkl")).collect();
        let root = match roots.as_slice() {
            [root] if root.strip_suffix('/').is_some_and(|r| !r.contains('/')) => (*root).to_owned(),
            [] => {
                return Err(bad(
                    Code::TorchFormat,
                    "is a zip file without a data.pkl, so torch.save did not write it".to_owned(),
                ));
            }
            [root] => {
                return Err(bad(
                    Code::ZipName,
                    format!("has its data.pkl at '{root}data.pkl', not in a top-level folder"),
                ));
            }
            [_, ..] => return Err(bad(Code::ZipDuplicate, format!("has {} members named data.pkl", roots.len()))),
        };
        if let Some(other) = members.iter().find(|m| !m.name.starts_with(&root)) {
            return Err(bad(Code::ZipName, format!("member '{}' is not under '{root}'", other.name)));
        }
        let by_name = members.iter().enumerate().map(|(i, m)| (m.name.clone(), i)).collect();
        let archive = Self { shard, root, members, by_name };
        archive.check_version_and_byte_order()?;
        Ok(archive)
    }

    fn check_version_and_byte_order(&self) -> Result<()> {
        let version = self.read("version", MAX_SHORT_MEMBER)?.unwrap_or_else(|| b"3".to_vec());
        let number = std::str::from_utf8(&version).ok().and_then(|text| text.trim_end().parse().ok());
        if !number.is_some_and(|n| VERSIONS.contains(&n)) {
            let what = format!("has version '{}'; 1 to 10 are supported", version.escape_ascii());
            return Err(Error::new(Code::TorchVersion, &self.shard.path, what, DAMAGED));
        }
        match self.read("byteorder", MAX_SHORT_MEMBER)?.as_deref() {
            None | Some(b"little") => Ok(()),
            Some(order) => {
                let what = format!("has byte order '{}'; only little is supported", order.escape_ascii());
                let fix = "save it again on a little-endian machine (x86, ARM)";
                Err(Error::new(Code::TorchEndian, &self.shard.path, what, fix))
            }
        }
    }

    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        self.by_name.get(&format!("{}{name}", self.root)).and_then(|i| self.members.get(*i))
    }

    /// Reads a member of at most `max` bytes and checks its CRC-32; `None` when there is no such member.
    pub(super) fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.member(name) else { return Ok(None) };
        if member.len > max {
            let what = format!("member '{}' has {} bytes; the limit is {max}", member.name, member.len);
            return Err(Error::new(Code::PickleLimit, &self.shard.path, what, ONLY_TENSORS));
        }
        let mut bytes = vec![0; usize::try_from(member.len).unwrap_or(0)];
        self.shard.read(&mut bytes, member.offset, &format!("read member '{}'", member.name))?;
        let crc = crc32fast::hash(&bytes);
        if member.crc != 0 && member.crc != crc {
            return Err(crc_mismatch(&self.shard.path, &member.name, member.offset, member.crc, crc));
        }
        Ok(Some(bytes))
    }

    pub(super) fn error(&self, err: PickleError) -> Error {
        let at = self.member("data.pkl").map_or(0, |m| m.offset).saturating_add(err.at as u64);
        let what = format!("data.pkl+0x{:x} (byte {at}): {}", err.at, err.what);
        let fix = match err.code {
            Code::PickleGlobal => ONLY_TENSORS,
            Code::PickleProtocol | Code::PickleOpcode => {
                "only tensors are loaded, nothing was executed; if you trust the file, save it again with torch.save's default protocol"
            }
            Code::TorchState => "only a plain state_dict is supported: save that alone",
            Code::TorchDtype => "convert the tensor to float32, float16 or bfloat16 first",
            _ => "the file is damaged or not from torch.save: download it again",
        };
        Error::new(err.code, &self.shard.path, what, fix)
    }
}

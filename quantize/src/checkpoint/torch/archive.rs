//! The members of a `.bin` file by their names under its one root, and the small ones read.

use crate::checkpoint::pickle::PickleError;
use crate::checkpoint::weight_file::{DAMAGED, Shard, crc_mismatch};
use crate::checkpoint::zip::{self, Member};
use crate::error::{Code, Error, Result};
use std::collections::HashMap;

/// PyTorch reads these (`kMinSupportedFileFormatVersion` and its maximum).
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=10;
/// `version` and `byteorder` have a few bytes.
const MAX_NOTE: u64 = 64;

const REFUSED: &str = "only tensors are loaded; nothing was executed";

/// The members under the one root.
pub(super) struct Archive<'a> {
    shard: &'a Shard,
    /// With the slash at its end.
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
                    "is a zip file without a data.pkl, so it is none that torch.save wrote".to_owned(),
                ));
            }
            [root] => {
                return Err(bad(Code::ZipName, format!("has its data.pkl at '{root}data.pkl', not in one folder")));
            }
            [_, ..] => return Err(bad(Code::ZipDuplicate, format!("has {} members named data.pkl", roots.len()))),
        };
        if let Some(other) = members.iter().find(|m| !m.name.starts_with(&root)) {
            return Err(bad(Code::ZipName, format!("member '{}' is not under '{root}'", other.name)));
        }
        let by_name = members.iter().enumerate().map(|(i, m)| (m.name.clone(), i)).collect();
        let archive = Self { shard, root, members, by_name };
        archive.check_notes()?;
        Ok(archive)
    }

    fn check_notes(&self) -> Result<()> {
        let version = self.read("version", MAX_NOTE)?.unwrap_or_else(|| b"3".to_vec());
        let number = std::str::from_utf8(&version).ok().and_then(|text| text.trim_end().parse().ok());
        if !number.is_some_and(|n| VERSIONS.contains(&n)) {
            let what = format!("is of version '{}', 1 to 10 are read", version.escape_ascii());
            return Err(Error::new(Code::TorchVersion, &self.shard.path, what, DAMAGED));
        }
        match self.read("byteorder", MAX_NOTE)?.as_deref() {
            None | Some(b"little") => Ok(()),
            Some(order) => {
                let what = format!("has byte order '{}'; little is read", order.escape_ascii());
                let fix = "save it again on a little-endian machine (x86, ARM)";
                Err(Error::new(Code::TorchEndian, &self.shard.path, what, fix))
            }
        }
    }

    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        self.by_name.get(&format!("{}{name}", self.root)).and_then(|i| self.members.get(*i))
    }

    /// All of a small member, its sum checked.
    pub(super) fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.member(name) else { return Ok(None) };
        if member.len > most {
            let what = format!("member '{}' has {} bytes, at most {most} are read", member.name, member.len);
            return Err(Error::new(Code::PickleLimit, &self.shard.path, what, REFUSED));
        }
        let mut bytes = vec![0; usize::try_from(member.len).unwrap_or(0)];
        self.shard.read(&mut bytes, member.offset, &format!("read member '{}'", member.name))?;
        let sum = crc32fast::hash(&bytes);
        if member.crc != 0 && member.crc != sum {
            return Err(crc_mismatch(&self.shard.path, &member.name, member.offset, member.crc, sum));
        }
        Ok(Some(bytes))
    }

    pub(super) fn refuse(&self, err: PickleError) -> Error {
        let at = self.member("data.pkl").map_or(0, |m| m.offset).saturating_add(err.at as u64);
        let what = format!("data.pkl+0x{:x} (byte {at}): {}", err.at, err.what);
        let fix = match err.code {
            Code::PickleGlobal => REFUSED,
            Code::PickleProtocol | Code::PickleOpcode => {
                "only tensors are loaded, nothing was executed; if the file is honest, save it again with torch.save's default protocol"
            }
            Code::TorchState => "only a plain state_dict is read: save that alone",
            Code::TorchDtype => "convert the tensor to float32, float16 or bfloat16 first",
            _ => "the file is damaged or hand-made: download it again",
        };
        Error::new(err.code, &self.shard.path, what, fix)
    }
}

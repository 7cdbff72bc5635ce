//! A sequence of the KV cache in a file: llama.cpp's state of the sequence, and a trailer with the model's
//! identity, the KV types and a CRC-32. If the file is damaged, or from another model, KV type or llama.cpp, it is not
//! passed to llama.cpp. The tokens are then computed again, and a note gives the reason.
//!
//! Layout: state · trailer (JSON) · length of the trailer (u32, little-endian) · [`MAGIC`].

use super::decoder::Decoder;
use crate::atomic_file::{AtomicFile, Mode};
use crate::engine::EngineSettings;
use crate::error::Failure;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The last bytes of the file.
const MAGIC: [u8; 8] = *b"TULU-KV1";
/// Limit on the length of a trailer.
const MAX_TRAILER: u32 = 64 << 10;

/// Everything that the keys and values depend on besides the tokens. A file is reused only if it is equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KvIdentity {
    /// Fingerprint of the model file, see [`crate::model::fingerprint()`].
    pub(crate) model: String,
    /// The pinned llama.cpp.
    pub(crate) pin: String,
    pub(crate) type_k: String,
    pub(crate) type_v: String,
    pub(crate) flash_attn: String,
}

impl KvIdentity {
    /// Returns the identity of the model with this fingerprint under `settings`.
    pub(crate) fn new(model: String, settings: &EngineSettings) -> Self {
        Self {
            model,
            pin: env!("TULU_QUANT_PIN").to_owned(),
            type_k: settings.type_k.name().to_owned(),
            type_v: settings.type_v.name().to_owned(),
            flash_attn: settings.flash_attn.name().to_owned(),
        }
    }

    /// Returns the first difference between the identity in a file and that of `now`, for the note.
    fn differs(&self, now: &Self) -> Option<&'static str> {
        [
            (&self.model, &now.model, "another model"),
            (&self.pin, &now.pin, "another version of llama.cpp"),
            (&self.type_k, &now.type_k, "another type of keys (-ctk)"),
            (&self.type_v, &now.type_v, "another type of values (-ctv)"),
            (&self.flash_attn, &now.flash_attn, "another setting of flash attention (-fa)"),
        ]
        .into_iter()
        .find_map(|(then, now, what)| (then != now).then_some(what))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    #[serde(rename = "maker")]
    identity: KvIdentity,
    /// Context size when it was saved; for information.
    n_ctx: usize,
    tokens: usize,
    /// Bytes of the state.
    bytes: u64,
    /// CRC-32 of the state.
    crc32: u32,
}

/// Saves slot `slot` of `decoder` to `path`. Returns the size of the file, or `None` when the slot is empty.
pub(crate) fn save(
    decoder: &Decoder<'_>,
    slot: usize,
    identity: &KvIdentity,
    path: &Path,
) -> Result<Option<u64>, Failure> {
    let failed = |err: std::io::Error| Failure::io(path, "cannot write the KV cache", &err);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let target = AtomicFile::create_named(path, Mode::Owner).map_err(failed)?;
    let temp = target.temporary_path().unwrap_or(path);
    let tokens = decoder.save_state(slot, temp)?;
    if tokens == 0 {
        return Ok(None);
    }
    let mut file = OpenOptions::new().read(true).append(true).open(temp).map_err(failed)?;
    let (bytes, crc32) = crc32_of(&mut file, u64::MAX).map_err(failed)?;
    let trailer = Trailer { identity: identity.clone(), n_ctx: decoder.n_ctx(), tokens, bytes, crc32 };
    let mut end = serde_json::to_vec(&trailer).map_err(|err| failed(err.into()))?;
    let len = u32::try_from(end.len()).unwrap_or(u32::MAX);
    end.extend(len.to_le_bytes());
    end.extend(MAGIC);
    file.write_all(&end).map_err(failed)?;
    target.commit().map_err(failed)?;
    Ok(Some(bytes + end.len() as u64))
}

/// Restores slot `slot` of `decoder`, which must be idle, from `path`. Returns the number of tokens.
///
/// # Errors
/// The reason why the file was not used.
pub(crate) fn load(
    decoder: &mut Decoder<'_>,
    slot: usize,
    identity: &KvIdentity,
    path: &Path,
) -> Result<usize, String> {
    let trailer = open(path)?;
    if let Some(what) = trailer.identity.differs(identity) {
        return Err(format!("it was saved with {what}"));
    }
    if trailer.tokens > decoder.n_ctx() {
        return Err(format!("it has {} tokens, but the context size is {}", trailer.tokens, decoder.n_ctx()));
    }
    decoder.load_state(slot, path).map_err(|failure| failure.what)
}

/// Reads the trailer, and checks the state against it.
fn open(path: &Path) -> Result<Trailer, String> {
    let mut file = File::open(path).map_err(|err| err.to_string())?;
    let about = file.metadata().map_err(|err| err.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    let damaged = |_| "it is truncated".to_owned();
    let end = about.len().checked_sub(12).ok_or("it is truncated")?;
    file.seek(SeekFrom::Start(end)).map_err(damaged)?;
    let (mut len, mut magic) = ([0; 4], [0; 8]);
    file.read_exact(&mut len).and_then(|()| file.read_exact(&mut magic)).map_err(damaged)?;
    let len = u32::from_le_bytes(len);
    let bytes = end.checked_sub(u64::from(len)).filter(|_| magic == MAGIC && len <= MAX_TRAILER);
    let bytes = bytes.ok_or("it is truncated, or not a KV cache file of tulu-quant")?;
    let mut trailer = vec![0; len as usize];
    file.seek(SeekFrom::Start(bytes)).and_then(|_| file.read_exact(&mut trailer)).map_err(damaged)?;
    let trailer: Trailer = serde_json::from_slice(&trailer).map_err(|_| "its trailer is corrupt")?;
    file.rewind().map_err(damaged)?;
    let (_, crc32) = crc32_of(&mut file, bytes).map_err(damaged)?;
    if (trailer.bytes, trailer.crc32) != (bytes, crc32) {
        return Err("it is damaged: its checksum is wrong".to_owned());
    }
    Ok(trailer)
}

/// Returns length and CRC-32 of at most the next `limit` bytes.
fn crc32_of(file: &mut File, limit: u64) -> std::io::Result<(u64, u32)> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut rest = file.take(limit);
    let mut len = 0;
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok((len, hasher.finalize())),
            n => {
                hasher.update(&buffer[..n]);
                len += n as u64;
            }
        }
    }
}

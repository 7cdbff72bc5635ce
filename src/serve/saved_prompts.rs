//! The folder of `--cache-dir`: the KV cache of conversations and long prompts, kept over restarts. The slots are written
//! when the server ends and loaded before it begins, each a file of [`kv_file`]. A sub-folder for each model and its
//! settings has them, named after their tokens. The newest stay within the size limit of the whole folder.

use crate::decode::kv_file::{self, KvIdentity};
use crate::decode::{Decoder, KeptSlot};
use crate::engine::{Model, Token};
use crate::error::{Code, Failure};
use crate::stderr;
use crate::table::count;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tulu_quantize::hex;

/// Slots with fewer tokens are not kept: they are computed again as fast as they are loaded.
const TOKENS_MIN: usize = 32;
/// End of the names of the files.
const EXTENSION: &str = "kv";

/// Settings of the folder.
#[derive(Clone, Debug)]
pub(crate) struct CacheSettings {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// Bytes of all its files.
    pub(crate) bytes_max: u64,
}

/// The folder, as one model sees it.
#[derive(Debug)]
pub(super) struct SavedPrompts {
    settings: CacheSettings,
    /// The sub-folder of the model.
    folder: PathBuf,
    identity: KvIdentity,
    bytes_per_token: u64,
    /// Tokens of the files that were loaded.
    loaded: Vec<(PathBuf, Vec<Token>)>,
}

/// A file in the folder.
struct Saved {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl SavedPrompts {
    /// Opens the folder for a model with this fingerprint, and creates it if it is missing.
    pub(super) fn open(settings: CacheSettings, model: &Model, fingerprint: String) -> Result<Self, Failure> {
        let engine = model.settings();
        let identity = KvIdentity::new(fingerprint, engine);
        let KvIdentity { model: name, pin, type_k, type_v, flash_attn } = &identity;
        let key = Sha256::digest([name, pin, type_k, type_v, flash_attn].map(|text| format!("{text}\n")).concat());
        let folder = settings.folder.join(&hex(&key)[..16]);
        let failed = |err: std::io::Error| Failure::io(&folder, "cannot create the folder of --cache-dir", &err);
        crate::platform::create_private_folder(&folder).map_err(failed)?;
        if crate::platform::others_can_write(&settings.folder) {
            let what = "others can write to the folder of --cache-dir";
            return Err(Failure::input(Code::Flags, what, "chmod 700 it, or give another folder").at(&settings.folder));
        }
        let bytes_per_token = model.dims().kv_bytes_per_cell(engine.type_k, engine.type_v);
        Ok(Self { settings, folder, identity, bytes_per_token, loaded: Vec::new() })
    }

    /// Loads the newest files, as many as there are slots and cells. A file that cannot be used is skipped with a note.
    pub(super) fn load(&mut self, decoder: &mut Decoder<'_>) -> Result<(), Failure> {
        let mut saved = files(&self.folder);
        saved.sort_by_key(|file| std::cmp::Reverse(file.used));
        let mut slots = Vec::new();
        for file in saved {
            // One slot stays empty for a new conversation.
            let slot = slots.len();
            if slot + 1 >= decoder.idle() {
                break;
            }
            match kv_file::load(decoder, slot, &self.identity, &file.path) {
                Ok(_) => {
                    decoder.share_loaded(slot)?;
                    slots.push(slot);
                    let tokens = decoder.kept(1).into_iter().find(|kept| kept.slot == slot).map(|kept| kept.tokens);
                    self.loaded.push((file.path, tokens.unwrap_or_default()));
                }
                Err(why) => {
                    let name = file.path.display();
                    stderr::note(&format!("{name}: this saved prompt is not used: {why}"));
                }
            }
        }
        // The newest is the last one used.
        slots.iter().rev().for_each(|slot| decoder.mark_used(*slot));
        if !slots.is_empty() {
            let n = count(slots.len(), "saved prompt", "saved prompts");
            stderr::note(&format!("{n} of --cache-dir are in the KV cache"));
        }
        Ok(())
    }

    /// Writes the slots of `decoder`, and removes the oldest files above the size limit. An error is a note: the server
    /// has done its work.
    pub(super) fn save(&self, decoder: &Decoder<'_>) {
        let mut room = self.settings.bytes_max;
        let fits = |kept: &KeptSlot| {
            let bytes = kept.tokens.len() as u64 * self.bytes_per_token;
            let left = room.checked_sub(bytes);
            room = left.unwrap_or(room);
            left.is_some()
        };
        let kept: Vec<KeptSlot> = decoder.kept(TOKENS_MIN).into_iter().filter(fits).collect();
        let longer = |tokens: &[Token]| kept.iter().any(|kept| is_beginning(tokens, &kept.tokens));
        let outdated = self.loaded.iter().filter(|(_, tokens)| longer(tokens));
        let outdated: Vec<&Path> = outdated.map(|(path, _)| path.as_path()).collect();
        // The newest is written last.
        for kept in kept.iter().rev().filter(|kept| !longer(&kept.tokens)) {
            let path = self.folder.join(name(&kept.tokens));
            let written = match File::options().append(true).open(&path) {
                Ok(file) => {
                    file.set_modified(SystemTime::now()).map_err(|err| Failure::io(&path, "cannot write", &err))
                }
                Err(_) => kv_file::save(decoder, kept.slot, &self.identity, &path).map(drop),
            };
            if let Err(failure) = written {
                stderr::note(&format!("--cache-dir: {failure}"));
                break;
            }
        }
        outdated.into_iter().for_each(|path| drop(fs::remove_file(path)));
        self.remove_oldest();
    }

    /// Removes the oldest files of all models until the rest is within the limit.
    fn remove_oldest(&self) {
        let folders = fs::read_dir(&self.settings.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut all: Vec<Saved> = folders.flat_map(|folder| files(&folder)).collect();
        all.sort_by_key(|file| file.used);
        let mut bytes: u64 = all.iter().map(|file| file.bytes).sum();
        for file in all {
            if bytes <= self.settings.bytes_max {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                bytes -= file.bytes;
            }
        }
    }
}

/// Whether `all` begins with `tokens` and is longer.
fn is_beginning(tokens: &[Token], all: &[Token]) -> bool {
    tokens.len() < all.len() && all.starts_with(tokens)
}

/// Returns the name of the file for these tokens.
fn name(tokens: &[Token]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.0.to_le_bytes()).collect();
    format!("{}.{EXTENSION}", &hex(&Sha256::digest(bytes))[..32])
}

/// Returns the files in a sub-folder.
fn files(folder: &Path) -> Vec<Saved> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == EXTENSION));
    let saved = ours.filter_map(|entry| {
        // Without following links.
        let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Saved { path: entry.path(), bytes: about.len(), used: about.modified().ok()? })
    });
    saved.collect()
}

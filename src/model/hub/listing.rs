//! What a repository holds at a commit: every file with its size and hash, in one request; and which of them a conversion
//! needs.

use super::Hub;
use super::client::Fault;
use super::hash::FileHash;
use super::refused::{Asked, Trouble};
use super::repo::{RepoId, is_hex};
use super::transfer::Tries;
use crate::error::{Code, Failure};
use crate::sanitize::hazardous;
use serde_json::Value;
use std::collections::HashMap;
use std::io::Read as _;
use ureq::http::Uri;

/// No listing comes near this.
const MAX_BODY: u64 = 64 << 20;

/// Pages of a tree at most.
const MAX_PAGES: u32 = 100;

/// No file is larger, and no repository: 16 TiB and 1 PiB. Below, sums of sizes that a server lists cannot overflow.
const MAX_FILE: u64 = 1 << 44;
const MAX_ALL: u64 = 1 << 50;

/// A larger "small" file is none: weights have their own rules.
const MAX_OTHER: u64 = 64 << 20;

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Path in the repository; parts are plain names.
    pub(crate) path: String,
    /// Length in bytes.
    pub(crate) size: u64,
    /// What it hashes to.
    pub(crate) hash: FileHash,
}

/// A repository at one commit.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    /// As it was asked for.
    pub(crate) repo: RepoId,
    /// The commit that the revision named: 40 hexadecimal digits.
    pub(crate) commit: String,
    /// Whether an agreement is asked for before files can be downloaded.
    pub(crate) gated: bool,
    /// The licence that the model card names.
    pub(crate) licence: Option<String>,
    /// Every file.
    pub(crate) files: Vec<RemoteFile>,
}

/// What a conversion needs of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Needed<'a> {
    /// safetensors, or else `.bin` files.
    pub(crate) weights: Vec<&'a RemoteFile>,
    /// Configuration, vocabulary, index, licence and model card.
    pub(crate) others: Vec<&'a RemoteFile>,
}

impl<'a> Needed<'a> {
    /// Small files first: a broken configuration is found before gigabytes are fetched.
    pub(crate) fn all(&self) -> Vec<&'a RemoteFile> {
        self.others.iter().chain(&self.weights).copied().collect()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.all().iter().map(|file| file.size).sum()
    }
}

/// How weights are named, in order of preference: (single file, before the shard's number, ending, the index of either).
const FORMATS: [(&str, &str, &str, &str); 2] = [
    ("model.safetensors", "model-", ".safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-", ".bin", "pytorch_model.bin.index.json"),
];

impl Listing {
    /// A file by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// What a conversion needs: safetensors when the index and all shards are there, else `.bin`; and the small files.
    pub(crate) fn needed(&self) -> Result<Needed<'_>, Failure> {
        let found = FORMATS.iter().find_map(|format| Some((format, self.weights(format)?)));
        let Some(((.., index), weights)) = found else {
            let (what, fix) = if self.files.iter().any(|file| file.path.ends_with(".gguf")) {
                ("holds GGUF files and no checkpoint", "download one of them and give its path")
            } else if self.file("adapter_config.json").is_some() {
                ("is a LoRA adapter, not a model", "merge it into its base model first (peft's merge_and_unload)")
            } else {
                ("has no complete set of model*.safetensors or pytorch_model*.bin files", "check the repository")
            };
            return Err(Failure::input(Code::HubNoWeights, what, fix).at(self.repo.id()));
        };
        let is_wanted = |file: &&RemoteFile| {
            let path = file.path.as_str();
            let texts = ["LICENSE", "LICENCE", "NOTICE", "README"].iter();
            let of_other = FORMATS.iter().any(|(.., other)| path == *other && path != *index);
            let kind = path.ends_with(".json") || path.ends_with(".txt") || path.ends_with(".jinja");
            let named = path == "tokenizer.model" || texts.clone().any(|t| path.to_uppercase().starts_with(t));
            !path.contains('/') && !of_other && file.size <= MAX_OTHER && (kind || named)
        };
        Ok(Needed { weights, others: self.files.iter().filter(is_wanted).collect() })
    }

    /// Every file of one format, when they are all there.
    fn weights(&self, (single, before, ending, index): &(&str, &str, &str, &str)) -> Option<Vec<&RemoteFile>> {
        let shard = |file: &RemoteFile| -> Option<(u32, u32)> {
            let (n, of) = file.path.strip_prefix(before)?.strip_suffix(ending)?.split_once("-of-")?;
            Some((n.parse().ok()?, of.parse().ok()?))
        };
        let mut shards: Vec<((u32, u32), &RemoteFile)> =
            self.files.iter().filter_map(|file| Some((shard(file)?, file))).collect();
        shards.sort_by_key(|(number, _)| *number);
        let total = shards.first().map_or(0, |((_, of), _)| *of);
        let whole = total > 0 && shards.iter().map(|(number, _)| *number).eq((1..=total).map(|n| (n, total)));
        if whole && self.file(index).is_some() {
            return Some(shards.into_iter().map(|(_, file)| file).collect());
        }
        self.file(single).map(|file| vec![file])
    }
}

impl Hub {
    /// What `repo` holds. The commit is fixed here: everything fetched with the listing is of that commit.
    pub(crate) fn listing(&self, repo: &RepoId) -> Result<Listing, Failure> {
        if self.settings.offline {
            let what = "is not in the cache, and HF_HUB_OFFLINE is set";
            return Err(Failure::input(Code::HubOffline, what, "unset HF_HUB_OFFLINE to fetch it").at(repo.to_string()));
        }
        let id = repo.id();
        let asked = Asked { id: &id, revision: repo.revision(), file: None };
        let at = format!("{}/api/models/{id}/revision/{}?blobs=true", self.settings.endpoint, repo.encoded_revision());
        let (model, url, _) = self.json(&asked, &at)?;
        let wrong = |what: &str| match asked.wrong(&url, what) {
            Trouble::Final(failure) | Trouble::Passing(failure, _) => failure,
        };
        let commit = model["sha"].as_str().filter(|sha| is_hex(sha, 40)).ok_or_else(|| wrong("no commit is named"))?;
        let siblings = model["siblings"].as_array().ok_or_else(|| wrong("no files are listed"))?;
        let paths: Vec<&str> = siblings.iter().filter_map(|file| file["rfilename"].as_str()).collect();
        let mut known: HashMap<String, (u64, FileHash)> = HashMap::new();
        for file in siblings {
            known.extend(described(&file["rfilename"], &file["size"], &file["blobId"], &file["lfs"], "sha256"));
        }
        if paths.iter().any(|path| !known.contains_key(*path)) {
            self.tree(&asked, commit, &mut known)?;
        }
        let (mut files, mut all) = (Vec::new(), 0_u64);
        // a name with the token in it would become a file's name here
        let is_usable = |path: &&str| is_plain(path) && !self.settings.are_secrets_in(path);
        for path in paths.into_iter().filter(is_usable) {
            let Some((size, hash)) = known.remove(path) else {
                return Err(wrong(&format!("it tells no size or hash of {path}")));
            };
            all = match all.checked_add(size).filter(|all| size <= MAX_FILE && *all <= MAX_ALL) {
                Some(all) => all,
                None => return Err(wrong(&format!("it lists {path} with {size} bytes, which no repository has"))),
            };
            files.push(RemoteFile { path: path.to_owned(), size, hash });
        }
        let gated = !matches!(model["gated"], Value::Null | Value::Bool(false));
        let licence = model["cardData"]["license"].as_str().map(|text| self.settings.scrub(text));
        Ok(Listing { repo: repo.clone(), commit: commit.to_owned(), gated, licence, files })
    }

    /// Sizes and hashes from the other address that tells them, for servers that leave them out of the first.
    fn tree(
        &self,
        asked: &Asked<'_>,
        commit: &str,
        known: &mut HashMap<String, (u64, FileHash)>,
    ) -> Result<(), Failure> {
        let mut at = Some(format!("{}/api/models/{}/tree/{commit}?recursive=true", self.settings.endpoint, asked.id));
        for _ in 0..MAX_PAGES {
            let Some(page) = at.take() else { break };
            let (list, _, next) = self.json(asked, &page)?;
            for file in list.as_array().into_iter().flatten().filter(|file| file["type"] == "file") {
                known.extend(described(&file["path"], &file["size"], &file["oid"], &file["lfs"], "oid"));
            }
            at = next;
        }
        Ok(())
    }

    /// A JSON answer, where it came from, and the address of the next page.
    fn json(&self, asked: &Asked<'_>, at: &str) -> Result<(Value, Uri, Option<String>), Failure> {
        let mut tries = Tries::new(self);
        loop {
            match self.try_json(asked, at) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => tries.again(trouble)?,
            }
        }
    }

    fn try_json(&self, asked: &Asked<'_>, at: &str) -> Result<(Value, Uri, Option<String>), Trouble> {
        let url: Uri = at.parse().map_err(|err| {
            Trouble::Final(Failure::input(Code::HubEndpoint, format!("{err}"), "check HF_ENDPOINT").at(asked.id))
        })?;
        let (mut reply, url) = self.follow(asked, &url, None, None)?;
        let next = reply.header("link").and_then(next_page).filter(|next| {
            next.parse::<Uri>().is_ok_and(|next| super::redirect::same_origin(&next, &self.settings.base))
        });
        let mut body = Vec::new();
        let read = reply.body().take(MAX_BODY).read_to_end(&mut body);
        self.go_on().map_err(Trouble::Final)?;
        read.map_err(|err| Fault::cut_listing(&err, &url, body.len()))?;
        let value =
            serde_json::from_slice(&body).map_err(|_| asked.wrong(&url, "no JSON where a listing is expected"))?;
        Ok((value, url, next))
    }
}

/// One file as either address describes it; `oid` is what the LFS part calls its sha256.
fn described(path: &Value, size: &Value, git: &Value, lfs: &Value, oid: &str) -> Option<(String, (u64, FileHash))> {
    let hash = match lfs {
        Value::Object(_) => FileHash::Sha256(lfs[oid].as_str().filter(|hex| is_hex(hex, 64))?.to_owned()),
        _ => FileHash::GitSha1(git.as_str().filter(|hex| is_hex(hex, 40))?.to_owned()),
    };
    let size = lfs["size"].as_u64().or_else(|| size.as_u64())?;
    Some((path.as_str()?.to_owned(), (size, hash)))
}

/// Below the snapshot's folder, and nothing else: what is listed becomes a path on this machine.
fn is_plain(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
    path.split('/').all(part) && !path.chars().any(hazardous) && path.len() <= 500
}

/// `<https://…>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

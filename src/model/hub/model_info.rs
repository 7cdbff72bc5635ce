//! The listing of a repository, in one request (`/api/models/ID/revision/REV?blobs=true`).

use super::client::TransportError;
use super::handle::Hub;
use super::hash::FileHash;
use super::http_error::{RequestError, RequestInfo};
use super::listing::{Listing, RemoteFile};
use super::repo_id::{RepoId, is_hex};
use super::retry::Retries;
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

impl Hub {
    /// What `repo` holds. The commit is fixed here: everything fetched with the listing is of that commit.
    pub(crate) fn listing(&self, repo: &RepoId) -> Result<Listing, Failure> {
        if self.settings.offline {
            let what = "is not in the cache, and HF_HUB_OFFLINE is set";
            return Err(Failure::input(Code::HubOffline, what, "unset HF_HUB_OFFLINE to fetch it").at(repo.to_string()));
        }
        let id = repo.id();
        let info = RequestInfo { id: &id, revision: repo.revision(), file: None };
        let at = format!("{}/api/models/{id}/revision/{}?blobs=true", self.settings.endpoint, repo.encoded_revision());
        let (model, url, _) = self.get_json(&info, &at)?;
        let wrong = |what: &str| match info.invalid_response(&url, what) {
            RequestError::Permanent(failure) | RequestError::Transient(failure, _) => failure,
        };
        let commit = model["sha"].as_str().filter(|sha| is_hex(sha, 40)).ok_or_else(|| wrong("no commit is named"))?;
        let siblings = model["siblings"].as_array().ok_or_else(|| wrong("no files are listed"))?;
        let paths: Vec<&str> = siblings.iter().filter_map(|file| file["rfilename"].as_str()).collect();
        let mut known: HashMap<String, (u64, FileHash)> = HashMap::new();
        for file in siblings {
            known.extend(parse_file(&file["rfilename"], &file["size"], &file["blobId"], &file["lfs"], "sha256"));
        }
        if paths.iter().any(|path| !known.contains_key(*path)) {
            self.list_tree(&info, commit, &mut known)?;
        }
        let (mut files, mut all) = (Vec::new(), 0_u64);
        // a name with the token in it would become a file's name here
        let is_usable = |path: &&str| is_safe_path(path) && !self.settings.contains_secret(path);
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
    fn list_tree(
        &self,
        info: &RequestInfo<'_>,
        commit: &str,
        known: &mut HashMap<String, (u64, FileHash)>,
    ) -> Result<(), Failure> {
        let mut at = Some(format!("{}/api/models/{}/tree/{commit}?recursive=true", self.settings.endpoint, info.id));
        for _ in 0..MAX_PAGES {
            let Some(page) = at.take() else { break };
            let (list, _, next) = self.get_json(info, &page)?;
            for file in list.as_array().into_iter().flatten().filter(|file| file["type"] == "file") {
                known.extend(parse_file(&file["path"], &file["size"], &file["oid"], &file["lfs"], "oid"));
            }
            at = next;
        }
        Ok(())
    }

    /// A JSON answer, where it came from, and the address of the next page.
    fn get_json(&self, info: &RequestInfo<'_>, at: &str) -> Result<(Value, Uri, Option<String>), Failure> {
        let mut tries = Retries::new(self);
        loop {
            match self.try_get_json(info, at) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => tries.again(trouble)?,
            }
        }
    }

    fn try_get_json(&self, info: &RequestInfo<'_>, at: &str) -> Result<(Value, Uri, Option<String>), RequestError> {
        let url: Uri = at.parse().map_err(|err| {
            RequestError::Permanent(
                Failure::input(Code::HubEndpoint, format!("{err}"), "check HF_ENDPOINT").at(info.id),
            )
        })?;
        let (mut reply, url) = self.get_following_redirects(info, &url, None, None)?;
        let next = reply
            .header("link")
            .and_then(next_page)
            .filter(|next| next.parse::<Uri>().is_ok_and(|next| super::url::same_origin(&next, &self.settings.base)));
        let mut body = Vec::new();
        let read = reply.body().take(MAX_BODY).read_to_end(&mut body);
        self.check_cancelled().map_err(RequestError::Permanent)?;
        read.map_err(|err| TransportError::listing_disconnected(&err, &url, body.len()))?;
        let value = serde_json::from_slice(&body)
            .map_err(|_| info.invalid_response(&url, "no JSON where a listing is expected"))?;
        Ok((value, url, next))
    }
}

/// One file as either address describes it; `oid` is what the LFS part calls its sha256.
fn parse_file(path: &Value, size: &Value, git: &Value, lfs: &Value, oid: &str) -> Option<(String, (u64, FileHash))> {
    let hash = match lfs {
        Value::Object(_) => FileHash::Sha256(lfs[oid].as_str().filter(|hex| is_hex(hex, 64))?.to_owned()),
        _ => FileHash::GitSha1(git.as_str().filter(|hex| is_hex(hex, 40))?.to_owned()),
    };
    let size = lfs["size"].as_u64().or_else(|| size.as_u64())?;
    Some((path.as_str()?.to_owned(), (size, hash)))
}

/// Below the snapshot's folder, and nothing else: what is listed becomes a path on this machine.
fn is_safe_path(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
    path.split('/').all(part) && !path.chars().any(hazardous) && path.len() <= 500
}

/// `<https://…>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

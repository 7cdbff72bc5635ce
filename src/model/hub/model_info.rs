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

/// Limit on the bytes of a listing.
const MAX_BODY: u64 = 64 << 20;

/// Limit on the pages of a tree.
const MAX_PAGES: u32 = 100;

/// Limits on the size of a file (16 TiB) and a repository (1 PiB), so that sums of listed sizes cannot overflow.
const MAX_FILE: u64 = 1 << 44;
const MAX_ALL: u64 = 1 << 50;

impl Hub {
    /// Lists the files of `repo` at one commit. Downloads that use the listing come from this commit.
    pub(crate) fn listing(&self, repo: &RepoId) -> Result<Listing, Failure> {
        if self.settings.offline {
            let what = "is not in the cache, and HF_HUB_OFFLINE is set";
            return Err(
                Failure::input(Code::HubOffline, what, "unset HF_HUB_OFFLINE to download it").at(repo.to_string())
            );
        }
        let id = repo.id();
        let info = RequestInfo { id: &id, revision: repo.revision(), file: None };
        let at = format!("{}/api/models/{id}/revision/{}?blobs=true", self.settings.endpoint, repo.encoded_revision());
        let (model, url, _) = self.get_json(&info, &at)?;
        let wrong = |what: &str| match info.invalid_response(&url, what) {
            RequestError::Permanent(failure) | RequestError::Transient(failure, _) => failure,
        };
        let commit = model["sha"].as_str().filter(|sha| is_hex(sha, 40)).ok_or_else(|| wrong("no commit"))?;
        let siblings = model["siblings"].as_array().ok_or_else(|| wrong("no list of files"))?;
        let paths: Vec<&str> = siblings.iter().filter_map(|file| file["rfilename"].as_str()).collect();
        let mut known: HashMap<String, (u64, FileHash)> = HashMap::new();
        for file in siblings {
            known.extend(parse_file(&file["rfilename"], &file["size"], &file["blobId"], &file["lfs"], "sha256"));
        }
        if paths.iter().any(|path| !known.contains_key(*path)) {
            self.list_tree(&info, commit, &mut known)?;
        }
        let (mut files, mut all) = (Vec::new(), 0_u64);
        // a file name must not contain the token
        let is_usable = |path: &&str| is_safe_path(path) && !self.settings.contains_secret(path);
        for path in paths.into_iter().filter(is_usable) {
            let Some((size, hash)) = known.remove(path) else {
                return Err(wrong(&format!("no size or hash of {path}")));
            };
            all = match all.checked_add(size).filter(|all| size <= MAX_FILE && *all <= MAX_ALL) {
                Some(all) => all,
                None => return Err(wrong(&format!("it lists {path} with {size} bytes, which is too large"))),
            };
            files.push(RemoteFile { path: path.to_owned(), size, hash });
        }
        let gated = !matches!(model["gated"], Value::Null | Value::Bool(false));
        let licence = model["cardData"]["license"].as_str().map(|text| self.settings.scrub(text));
        Ok(Listing { repo: repo.clone(), commit: commit.to_owned(), gated, licence, files })
    }

    /// Reads sizes and hashes from the tree API, for mirrors that omit them in the model info.
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

    /// Requests JSON, with retries. Returns the value, the URL that it came from, and the URL of the next page.
    fn get_json(&self, info: &RequestInfo<'_>, at: &str) -> Result<(Value, Uri, Option<String>), Failure> {
        let mut tries = Retries::new(self);
        loop {
            match self.try_get_json(info, at) {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.wait(error)?,
            }
        }
    }

    fn try_get_json(&self, info: &RequestInfo<'_>, at: &str) -> Result<(Value, Uri, Option<String>), RequestError> {
        let url: Uri = at.parse().map_err(|err| {
            RequestError::Permanent(
                Failure::input(Code::HubEndpoint, format!("{err}"), "check HF_ENDPOINT").at(info.id),
            )
        })?;
        let (mut response, url) = self.get_following_redirects(info, &url, None, None)?;
        let next = response
            .header("link")
            .and_then(next_page)
            .filter(|next| next.parse::<Uri>().is_ok_and(|next| super::url::same_origin(&next, &self.settings.base)));
        let mut body = Vec::new();
        let read = response.body().take(MAX_BODY).read_to_end(&mut body);
        self.check_cancelled().map_err(RequestError::Permanent)?;
        read.map_err(|err| TransportError::listing_disconnected(&err, &url, body.len()))?;
        let value = serde_json::from_slice(&body).map_err(|_| info.invalid_response(&url, "not JSON"))?;
        Ok((value, url, next))
    }
}

/// Parses the entry of a file in either API; `oid` is the name of the sha256 in its LFS part.
fn parse_file(path: &Value, size: &Value, git: &Value, lfs: &Value, oid: &str) -> Option<(String, (u64, FileHash))> {
    let hash = match lfs {
        Value::Object(_) => FileHash::Sha256(lfs[oid].as_str().filter(|hex| is_hex(hex, 64))?.to_owned()),
        _ => FileHash::GitSha1(git.as_str().filter(|hex| is_hex(hex, 40))?.to_owned()),
    };
    let size = lfs["size"].as_u64().or_else(|| size.as_u64())?;
    Some((path.as_str()?.to_owned(), (size, hash)))
}

/// Returns whether a listed path is safe to use below the snapshot's folder.
fn is_safe_path(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']);
    path.split('/').all(part) && !path.chars().any(hazardous) && path.len() <= 500
}

/// Returns the URL of the next page in a Link header: `<https://…>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

//! A range of a file, whatever happens on the way: tried again, gone on with after a cut, redirected. The bytes reach the
//! sink in order, each once, and only under a status, a range and a length that fit what was asked.

use super::client::{Response, TransportError};
use super::handle::Hub;
use super::hash::FileHash;
use super::http_error::{RequestError, RequestInfo};
use super::listing::{Listing, RemoteFile};
use super::repo_id::is_hex;
use super::retry::Retries;
use super::url::{origin, percent_encode, redirect_target};
use crate::error::{Code, Failure};
use std::io::ErrorKind;
use std::ops::Range;
use ureq::http::Uri;

/// Redirects of one request.
const MAX_REDIRECTS: u32 = 8;

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// The largest file that is held in memory.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// Takes bytes as they come.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>;

impl Hub {
    /// Bytes `range` of `file` at the listing's commit, given to `sink` in order and each once. Retries again and goes on
    /// where the sink stands after a cut; an `Err` of the sink ends it and is passed on.
    pub(crate) fn get_range(
        &self,
        listing: &Listing,
        file: &RemoteFile,
        range: Range<u64>,
        sink: Sink<'_>,
    ) -> Result<(), Failure> {
        let mut tries = Retries::new(self);
        let mut at = range.start;
        while at < range.end {
            let before = at;
            let tried = self.attempt(listing, file, at..range.end, &mut |bytes| {
                sink(bytes)?;
                at += bytes.len() as u64;
                Ok(())
            });
            tries.arrived(at - before);
            if let Err(trouble) = tried {
                tries.again(trouble)?;
            }
        }
        Ok(())
    }

    /// A small file as a whole; its size and hash are checked.
    pub(crate) fn get_small_file(&self, listing: &Listing, file: &RemoteFile) -> Result<Vec<u8>, Failure> {
        if file.size > MAX_SMALL_FILE {
            let what = format!("{} is {} bytes long, which no such file is", file.path, file.size);
            return Err(Failure::input(Code::HubFile, what, "check the repository").at(listing.repo.id()));
        }
        let mut again = true;
        loop {
            let (mut bytes, mut checker) = (Vec::new(), file.hash.checker(file.size));
            self.get_range(listing, file, 0..file.size, &mut |part| {
                checker.update(part);
                bytes.extend_from_slice(part);
                Ok(())
            })?;
            match checker.finish() {
                Ok(()) => return Ok(bytes),
                Err(_) if again => again = false,
                Err(found) => return Err(hash_mismatch(listing, file, &found)),
            }
        }
    }

    /// One try at `range`.
    fn attempt(
        &self,
        listing: &Listing,
        file: &RemoteFile,
        range: Range<u64>,
        sink: Sink<'_>,
    ) -> Result<(), RequestError> {
        let id = listing.repo.id();
        let info = RequestInfo { id: &id, revision: &listing.commit, file: Some(&file.path) };
        let resolve = self.resolve_url(listing, &file.path)?;
        let whole = range.start == 0 && range.end == file.size;
        let header = (!whole).then(|| format!("bytes={}-{}", range.start, range.end - 1));
        let (reply, url) = self.get_following_redirects(&info, &resolve, header.as_deref(), Some(&file.hash))?;
        let checked = check_response(&info, &url, &reply, file, &range, whole);
        let copied = checked.and_then(|()| self.copy_body(reply, &url, &range, sink));
        if copied.is_err() {
            self.client.redirects.remember(&resolve, None);
        }
        copied
    }

    /// Where the Hub serves a file.
    fn resolve_url(&self, listing: &Listing, path: &str) -> Result<Uri, RequestError> {
        let mut url = format!("{}/{}/resolve/{}", self.settings.endpoint, listing.repo.id(), listing.commit);
        for part in path.split('/') {
            url.push('/');
            percent_encode(part, &mut url);
        }
        url.parse().map_err(|err| {
            let what = format!("'{path}' makes no address: {err}");
            RequestError::Permanent(Failure::input(Code::HubFile, what, "check the repository").at(listing.repo.id()))
        })
    }

    /// Asks for `url` and goes where it redirects to; answers the reply of status 2xx and where it came from.
    pub(super) fn get_following_redirects(
        &self,
        info: &RequestInfo<'_>,
        url: &Uri,
        range: Option<&str>,
        hash: Option<&FileHash>,
    ) -> Result<(Response, Uri), RequestError> {
        let remembered = self.client.redirects.of(url);
        let mut redirected = remembered.is_some();
        let mut at = remembered.unwrap_or_else(|| url.clone());
        for _ in 0..=MAX_REDIRECTS {
            self.check_cancelled().map_err(RequestError::Permanent)?;
            let reply = self.client.get(&at, range).inspect_err(|_| self.client.redirects.remember(url, None))?;
            if at == *url {
                check_etag(info, &at, &reply, hash)?;
            }
            match reply.status {
                200..=299 => return Ok((reply, at)),
                301 | 302 | 303 | 307 | 308 => {
                    let location = reply.header("location").unwrap_or_default();
                    let Some(to) = redirect_target(&at, location) else {
                        let what = format!("{} redirects to a place that is not followed", origin(&at));
                        let fix = "check HF_ENDPOINT and the proxy";
                        return Err(RequestError::Permanent(Failure::machine(Code::HubRedirect, what, fix)));
                    };
                    at = to;
                    redirected = true;
                    self.client.redirects.remember(url, Some(&at));
                }
                _ => {
                    self.client.redirects.remember(url, None);
                    let signed = redirected && !super::url::same_origin(&at, &self.settings.base);
                    return Err(info.error_of(&self.settings, &at, &reply, signed));
                }
            }
        }
        self.client.redirects.remember(url, None);
        let what = format!("{} redirects more than {MAX_REDIRECTS} times", origin(url));
        Err(RequestError::Permanent(Failure::machine(Code::HubRedirect, what, "check HF_ENDPOINT and the proxy")))
    }

    /// The body into the sink: exactly as many bytes as were asked for.
    fn copy_body(
        &self,
        mut reply: Response,
        url: &Uri,
        range: &Range<u64>,
        sink: Sink<'_>,
    ) -> Result<(), RequestError> {
        let wanted = range.end - range.start;
        let (mut buffer, mut got) = (vec![0; BUFFER], 0);
        while got < wanted {
            let room = usize::try_from(wanted - got).unwrap_or(BUFFER).min(BUFFER);
            let part = buffer.get_mut(..room).unwrap_or_default();
            let read = match reply.body().read(part) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                other => other,
            };
            self.check_cancelled().map_err(RequestError::Permanent)?;
            let n = read.map_err(|err: std::io::Error| {
                RequestError::from(TransportError::disconnected(&err, url, got, wanted))
            })?;
            sink(part.get(..n).unwrap_or_default()).map_err(RequestError::Permanent)?;
            got += n as u64;
        }
        Ok(())
    }
}

/// The bytes of a file are not what the Hub says they are.
pub(super) fn hash_mismatch(listing: &Listing, file: &RemoteFile, found: &str) -> Failure {
    let what = format!("what arrived has {} {found} and not {}; it was thrown away", file.hash.kind(), file.hash.hex());
    Failure::machine(Code::HubHash, what, "run it again; if it stays, a proxy or the mirror changes files").at(format!(
        "{}/{}",
        listing.repo.id(),
        file.path
    ))
}

/// The Hub names the file that it is about to serve: it must be the listed one. A mirror may say nothing.
fn check_etag(
    info: &RequestInfo<'_>,
    url: &Uri,
    reply: &Response,
    hash: Option<&FileHash>,
) -> Result<(), RequestError> {
    let Some(hash) = hash.filter(|_| reply.status < 400) else { return Ok(()) };
    let etag = reply.header("x-linked-etag").or_else(|| reply.header("etag")).unwrap_or_default();
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    // an etag of another form is a server's own business
    if is_hex(etag, hash.hex().len()) && etag != hash.hex() {
        return Err(info
            .invalid_response(url, &format!("its ETag {etag} is another file's than the one listed, {}", hash.hex())));
    }
    Ok(())
}

/// Status, range and length against what was asked.
fn check_response(
    info: &RequestInfo<'_>,
    url: &Uri,
    reply: &Response,
    file: &RemoteFile,
    range: &Range<u64>,
    whole: bool,
) -> Result<(), RequestError> {
    let wanted = range.end - range.start;
    if let Some(length) = reply.number("content-length").filter(|length| *length != wanted) {
        return Err(info.invalid_response(url, &format!("{length} bytes where {wanted} were asked for")));
    }
    match reply.status {
        200 if whole => Ok(()),
        206 => {
            let said = reply.header("content-range").unwrap_or_default();
            let right = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
            let unknown = format!("bytes {}-{}/*", range.start, range.end - 1);
            if said == right || said == unknown {
                Ok(())
            } else {
                Err(info.invalid_response(url, &format!("Content-Range '{said}', not '{right}'")))
            }
        }
        200 => Err(info.invalid_response(url, "the whole file where a range was asked for")),
        status => Err(info.invalid_response(url, &format!("status {status}"))),
    }
}

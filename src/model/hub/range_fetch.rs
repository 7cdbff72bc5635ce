//! Downloads a byte range with retries, resumption and redirects. Bytes reach the sink in order, each once, and only
//! from a response with the expected status, range and length.

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

/// Limit on the redirects of one request.
const MAX_REDIRECTS: u32 = 8;

/// Bytes per read.
const BUFFER: usize = 64 << 10;

/// Limit on the size of a file that is held in memory.
const MAX_SMALL_FILE: u64 = 64 << 20;

/// Receives the bytes, in order.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>;

impl Hub {
    /// Downloads `range` of `file`, at the listing's commit, into `sink`. After a lost connection, continues after the
    /// last byte that the sink received.
    ///
    /// # Errors
    /// An error of the sink ends the download and is returned.
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
            tries.received(at - before);
            if let Err(error) = tried {
                tries.wait(error)?;
            }
        }
        Ok(())
    }

    /// Downloads a small file into memory; checks its size and hash.
    pub(crate) fn get_small_file(&self, listing: &Listing, file: &RemoteFile) -> Result<Vec<u8>, Failure> {
        if file.size > MAX_SMALL_FILE {
            let what = format!("{} is {} bytes, too large for a configuration file", file.path, file.size);
            return Err(Failure::input(Code::HubFile, what, "check the repository").at(listing.repo.id()));
        }
        let mut retry = true;
        loop {
            let (mut bytes, mut checker) = (Vec::new(), file.hash.checker(file.size));
            self.get_range(listing, file, 0..file.size, &mut |part| {
                checker.update(part);
                bytes.extend_from_slice(part);
                Ok(())
            })?;
            match checker.finish() {
                Ok(()) => return Ok(bytes),
                Err(_) if retry => retry = false,
                Err(found) => return Err(hash_mismatch(listing, file, &found)),
            }
        }
    }

    /// Tries once to download `range`.
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
        let (response, url) = self.get_following_redirects(&info, &resolve, header.as_deref(), Some(&file.hash))?;
        let checked = check_response(&info, &url, &response, file, &range, whole);
        let copied = checked.and_then(|()| self.copy_body(response, &url, &range, sink));
        if copied.is_err() {
            self.client.redirects.set(&resolve, None);
        }
        copied
    }

    /// Returns the URL of a file.
    fn resolve_url(&self, listing: &Listing, path: &str) -> Result<Uri, RequestError> {
        let mut url = format!("{}/{}/resolve/{}", self.settings.endpoint, listing.repo.id(), listing.commit);
        for part in path.split('/') {
            url.push('/');
            percent_encode(part, &mut url);
        }
        url.parse().map_err(|err| {
            let what = format!("'{path}' does not make a valid URL: {err}");
            RequestError::Permanent(Failure::input(Code::HubFile, what, "check the repository").at(listing.repo.id()))
        })
    }

    /// Requests `url` and follows redirects. Returns the response with status 2xx, and the URL that sent it.
    pub(super) fn get_following_redirects(
        &self,
        info: &RequestInfo<'_>,
        url: &Uri,
        range: Option<&str>,
        hash: Option<&FileHash>,
    ) -> Result<(Response, Uri), RequestError> {
        let remembered = self.client.redirects.get(url);
        let mut redirected = remembered.is_some();
        let mut at = remembered.unwrap_or_else(|| url.clone());
        for _ in 0..=MAX_REDIRECTS {
            self.check_cancelled().map_err(RequestError::Permanent)?;
            let response = self.client.get(&at, range).inspect_err(|_| self.client.redirects.set(url, None))?;
            if at == *url {
                check_etag(info, &at, &response, hash)?;
            }
            match response.status {
                200..=299 => return Ok((response, at)),
                301 | 302 | 303 | 307 | 308 => {
                    let location = response.header("location").unwrap_or_default();
                    let Some(to) = redirect_target(&at, location) else {
                        let what = format!("{} redirects to an address that is not allowed", origin(&at));
                        let fix = "check HF_ENDPOINT and the proxy";
                        return Err(RequestError::Permanent(Failure::machine(Code::HubRedirect, what, fix)));
                    };
                    at = to;
                    redirected = true;
                    self.client.redirects.set(url, Some(&at));
                }
                _ => {
                    self.client.redirects.set(url, None);
                    let signed = redirected && !super::url::same_origin(&at, &self.settings.base);
                    return Err(info.error_of(&self.settings, &at, &response, signed));
                }
            }
        }
        self.client.redirects.set(url, None);
        let what = format!("{} redirects more than {MAX_REDIRECTS} times", origin(url));
        Err(RequestError::Permanent(Failure::machine(Code::HubRedirect, what, "check HF_ENDPOINT and the proxy")))
    }

    /// Passes the body to the sink: exactly the bytes of `range`.
    fn copy_body(
        &self,
        mut response: Response,
        url: &Uri,
        range: &Range<u64>,
        sink: Sink<'_>,
    ) -> Result<(), RequestError> {
        let wanted = range.end - range.start;
        let (mut buffer, mut got) = (vec![0; BUFFER], 0);
        while got < wanted {
            let len = usize::try_from(wanted - got).unwrap_or(BUFFER).min(BUFFER);
            let part = buffer.get_mut(..len).unwrap_or_default();
            let read = match response.body().read(part) {
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

/// Creates the error for a file whose hash differs from the listed one.
pub(super) fn hash_mismatch(listing: &Listing, file: &RemoteFile, found: &str) -> Failure {
    let what =
        format!("{} mismatch: expected {}, got {found}; the download was discarded", file.hash.kind(), file.hash.hex());
    Failure::machine(Code::HubHash, what, "run it again; if this persists, a proxy or the mirror changes files")
        .at(format!("{}/{}", listing.repo.id(), file.path))
}

/// Checks that the ETag is the hash of the listed file. A mirror may send none.
fn check_etag(
    info: &RequestInfo<'_>,
    url: &Uri,
    response: &Response,
    hash: Option<&FileHash>,
) -> Result<(), RequestError> {
    let Some(hash) = hash.filter(|_| response.status < 400) else { return Ok(()) };
    let etag = response.header("x-linked-etag").or_else(|| response.header("etag")).unwrap_or_default();
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    // other servers use ETags of other forms
    if is_hex(etag, hash.hex().len()) && etag != hash.hex() {
        return Err(info.invalid_response(url, &format!("its ETag is {etag}, but the listed hash is {}", hash.hex())));
    }
    Ok(())
}

/// Checks status, range and length of a response.
fn check_response(
    info: &RequestInfo<'_>,
    url: &Uri,
    response: &Response,
    file: &RemoteFile,
    range: &Range<u64>,
    whole: bool,
) -> Result<(), RequestError> {
    let wanted = range.end - range.start;
    if let Some(length) = response.number("content-length").filter(|length| *length != wanted) {
        return Err(info.invalid_response(url, &format!("{length} bytes instead of {wanted}")));
    }
    match response.status {
        200 if whole => Ok(()),
        206 => {
            let range_header = response.header("content-range").unwrap_or_default();
            let right = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
            let unknown = format!("bytes {}-{}/*", range.start, range.end - 1);
            if range_header == right || range_header == unknown {
                Ok(())
            } else {
                Err(info.invalid_response(url, &format!("Content-Range '{range_header}' instead of '{right}'")))
            }
        }
        200 => Err(info.invalid_response(url, "the whole file instead of a range")),
        status => Err(info.invalid_response(url, &format!("status {status}"))),
    }
}

//! A range of a file, whatever happens on the way: tried again, gone on with after a cut, redirected. The bytes reach the
//! sink in order, each once, and only under a status, a range and a length that fit what was asked.

use super::Hub;
use super::client::{Fault, Reply};
use super::hash::FileHash;
use super::listing::{Listing, RemoteFile};
use super::redirect::{encode, place, target};
use super::refused::{Asked, Trouble};
use super::repo::is_hex;
use crate::error::{Code, Failure};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::Uri;

/// Redirects of one request.
const MAX_REDIRECTS: u32 = 8;

/// A server that asks for more patience than this is obeyed by the user, not by us.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// How long the address that the Hub redirected to is used again; its signature holds for an hour.
const ADDRESS_LIFE: Duration = Duration::from_secs(10 * 60);

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// The largest file that is held in memory.
const MAX_WHOLE: u64 = 64 << 20;

/// Takes bytes as they come.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>;

/// Where the Hub redirected to, for each file.
#[derive(Default)]
pub(super) struct Addresses(Mutex<HashMap<String, (Uri, Instant)>>);

impl Addresses {
    fn of(&self, url: &Uri) -> Option<Uri> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&url.to_string()).filter(|(_, since)| since.elapsed() < ADDRESS_LIFE).map(|(to, _)| to.clone())
    }

    fn remember(&self, url: &Uri, to: Option<&Uri>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match to {
            Some(to) => known.insert(url.to_string(), (to.clone(), Instant::now())),
            None => known.remove(&url.to_string()),
        };
    }
}

/// A server that cuts the connection after every byte brings something each time, and never all: so many bytes…
const PROGRESS: u64 = 64 << 10;

/// …have to arrive in so many times the tries that are made without any progress.
const POOR: u32 = 8;

/// Failures since something last arrived, and since enough did.
pub(super) struct Tries<'a> {
    hub: &'a Hub,
    failed: u32,
    poor: u32,
    arrived: u64,
}

impl<'a> Tries<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        Self { hub, failed: 0, poor: 0, arrived: 0 }
    }

    /// So many bytes arrived by the last try.
    fn arrived(&mut self, bytes: u64) {
        self.arrived = self.arrived.saturating_add(bytes);
        if bytes > 0 {
            self.failed = 0;
        }
        if self.arrived >= PROGRESS {
            (self.poor, self.arrived) = (0, 0);
        }
    }

    /// Waits before the next try; the failure itself when it was the last, or when somebody asked to stop.
    pub(super) fn again(&mut self, trouble: Trouble) -> Result<(), Failure> {
        self.hub.go_on()?;
        let (failure, asked) = match trouble.without_secrets(&self.hub.settings) {
            Trouble::Final(failure) => return Err(failure),
            Trouble::Passing(failure, asked) => (failure, asked),
        };
        (self.failed, self.poor) = (self.failed.saturating_add(1), self.poor.saturating_add(1));
        let tries = self.hub.settings.tries;
        if self.failed >= tries || self.poor >= tries.saturating_mul(POOR) || asked.is_some_and(|wait| wait > MAX_WAIT)
        {
            return Err(failure);
        }
        let wait = asked.unwrap_or_else(|| Duration::from_millis(300) * 2_u32.pow(self.failed.min(6) - 1));
        if wait > Duration::from_secs(3) {
            self.hub.say_once(&failure.what, wait);
        }
        self.hub.pause(wait)
    }
}

impl Hub {
    /// Bytes `range` of `file` at the listing's commit, given to `sink` in order and each once. Tries again and goes on
    /// where the sink stands after a cut; an `Err` of the sink ends it and is passed on.
    pub(crate) fn get_range(
        &self,
        listing: &Listing,
        file: &RemoteFile,
        range: Range<u64>,
        sink: Sink<'_>,
    ) -> Result<(), Failure> {
        let mut tries = Tries::new(self);
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
    pub(crate) fn get_whole(&self, listing: &Listing, file: &RemoteFile) -> Result<Vec<u8>, Failure> {
        if file.size > MAX_WHOLE {
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
                Err(found) => return Err(wrong_hash(listing, file, &found)),
            }
        }
    }

    /// One try at `range`.
    fn attempt(&self, listing: &Listing, file: &RemoteFile, range: Range<u64>, sink: Sink<'_>) -> Result<(), Trouble> {
        let id = listing.repo.id();
        let asked = Asked { id: &id, revision: &listing.commit, file: Some(&file.path) };
        let resolve = self.resolve(listing, &file.path)?;
        let whole = range.start == 0 && range.end == file.size;
        let header = (!whole).then(|| format!("bytes={}-{}", range.start, range.end - 1));
        let (reply, url) = self.follow(&asked, &resolve, header.as_deref(), Some(&file.hash))?;
        let checked = check(&asked, &url, &reply, file, &range, whole);
        let copied = checked.and_then(|()| self.copy(reply, &url, &range, sink));
        if copied.is_err() {
            self.client.addresses.remember(&resolve, None);
        }
        copied
    }

    /// Where the Hub serves a file.
    fn resolve(&self, listing: &Listing, path: &str) -> Result<Uri, Trouble> {
        let mut url = format!("{}/{}/resolve/{}", self.settings.endpoint, listing.repo.id(), listing.commit);
        for part in path.split('/') {
            url.push('/');
            encode(part, &mut url);
        }
        url.parse().map_err(|err| {
            let what = format!("'{path}' makes no address: {err}");
            Trouble::Final(Failure::input(Code::HubFile, what, "check the repository").at(listing.repo.id()))
        })
    }

    /// Asks for `url` and goes where it redirects to; answers the reply of status 2xx and where it came from.
    pub(super) fn follow(
        &self,
        asked: &Asked<'_>,
        url: &Uri,
        range: Option<&str>,
        hash: Option<&FileHash>,
    ) -> Result<(Reply, Uri), Trouble> {
        let remembered = self.client.addresses.of(url);
        let mut redirected = remembered.is_some();
        let mut at = remembered.unwrap_or_else(|| url.clone());
        for _ in 0..=MAX_REDIRECTS {
            self.go_on().map_err(Trouble::Final)?;
            let reply = self.client.get(&at, range).inspect_err(|_| self.client.addresses.remember(url, None))?;
            if at == *url {
                same_file(asked, &at, &reply, hash)?;
            }
            match reply.status {
                200..=299 => return Ok((reply, at)),
                301 | 302 | 303 | 307 | 308 => {
                    let location = reply.header("location").unwrap_or_default();
                    let Some(to) = target(&at, location) else {
                        let what = format!("{} redirects to a place that is not followed", place(&at));
                        let fix = "check HF_ENDPOINT and the proxy";
                        return Err(Trouble::Final(Failure::machine(Code::HubRedirect, what, fix)));
                    };
                    at = to;
                    redirected = true;
                    self.client.addresses.remember(url, Some(&at));
                }
                _ => {
                    self.client.addresses.remember(url, None);
                    let signed = redirected && !super::redirect::same_origin(&at, &self.settings.base);
                    return Err(asked.refused(&self.settings, &at, &reply, signed));
                }
            }
        }
        self.client.addresses.remember(url, None);
        let what = format!("{} redirects more than {MAX_REDIRECTS} times", place(url));
        Err(Trouble::Final(Failure::machine(Code::HubRedirect, what, "check HF_ENDPOINT and the proxy")))
    }

    /// The body into the sink: exactly as many bytes as were asked for.
    fn copy(&self, mut reply: Reply, url: &Uri, range: &Range<u64>, sink: Sink<'_>) -> Result<(), Trouble> {
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
            self.go_on().map_err(Trouble::Final)?;
            let n = read.map_err(|err: std::io::Error| Trouble::from(Fault::cut(&err, url, got, wanted)))?;
            sink(part.get(..n).unwrap_or_default()).map_err(Trouble::Final)?;
            got += n as u64;
        }
        Ok(())
    }
}

/// The bytes of a file are not what the Hub says they are.
pub(super) fn wrong_hash(listing: &Listing, file: &RemoteFile, found: &str) -> Failure {
    let what = format!("what arrived has {} {found} and not {}; it was thrown away", file.hash.kind(), file.hash.hex());
    Failure::machine(Code::HubHash, what, "run it again; if it stays, a proxy or the mirror changes files").at(format!(
        "{}/{}",
        listing.repo.id(),
        file.path
    ))
}

/// The Hub names the file that it is about to serve: it must be the listed one. A mirror may say nothing.
fn same_file(asked: &Asked<'_>, url: &Uri, reply: &Reply, hash: Option<&FileHash>) -> Result<(), Trouble> {
    let Some(hash) = hash.filter(|_| reply.status < 400) else { return Ok(()) };
    let etag = reply.header("x-linked-etag").or_else(|| reply.header("etag")).unwrap_or_default();
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    // an etag of another form is a server's own business
    if is_hex(etag, hash.hex().len()) && etag != hash.hex() {
        return Err(asked.wrong(url, &format!("its ETag {etag} is another file's than the one listed, {}", hash.hex())));
    }
    Ok(())
}

/// Status, range and length against what was asked.
fn check(
    asked: &Asked<'_>,
    url: &Uri,
    reply: &Reply,
    file: &RemoteFile,
    range: &Range<u64>,
    whole: bool,
) -> Result<(), Trouble> {
    let wanted = range.end - range.start;
    if let Some(length) = reply.number("content-length").filter(|length| *length != wanted) {
        return Err(asked.wrong(url, &format!("{length} bytes where {wanted} were asked for")));
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
                Err(asked.wrong(url, &format!("Content-Range '{said}', not '{right}'")))
            }
        }
        200 => Err(asked.wrong(url, "the whole file where a range was asked for")),
        status => Err(asked.wrong(url, &format!("status {status}"))),
    }
}

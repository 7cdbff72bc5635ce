//! The expected hash of a file. The Hub lists the SHA-256 of every LFS file, and git's SHA-1 of every other file.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tulu_quantize::hex;

/// The hash of a file in the listing; also the name of its blob in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileHash {
    /// SHA-256 of an LFS file: 64 hexadecimal digits.
    Sha256(String),
    /// Git's object id of any other file: the SHA-1 of `blob LENGTH\0` and the bytes, 40 digits.
    GitSha1(String),
}

impl FileHash {
    /// Returns the hexadecimal digits.
    pub(crate) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitSha1(hex) => hex,
        }
    }

    /// Returns the name of the hash, for messages.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitSha1(_) => "git's sha1",
        }
    }

    /// Starts to hash a file of `size` bytes.
    pub(crate) fn checker(&self, size: u64) -> Checker {
        let state = match self {
            Self::Sha256(_) => State::Sha256(Sha256::new()),
            Self::GitSha1(_) => State::Sha1(Sha1::new_with_prefix(format!("blob {size}\0"))),
        };
        Checker { state, expected: self.hex().to_owned() }
    }
}

/// A hash that is being computed.
#[derive(Clone, Debug)]
pub(crate) struct Checker {
    state: State,
    expected: String,
}

#[derive(Clone, Debug)]
enum State {
    Sha256(Sha256),
    Sha1(Sha1),
}

impl Checker {
    /// Hashes the next bytes of the file.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(hash) => hash.update(bytes),
            State::Sha1(hash) => hash.update(bytes),
        }
    }

    /// Compares with the expected hash.
    ///
    /// # Errors
    /// The hash that was found instead.
    pub(crate) fn finish(self) -> Result<(), String> {
        let found = match self.state {
            State::Sha256(hash) => hex(&hash.finalize()),
            State::Sha1(hash) => hex(&hash.finalize()),
        };
        if found == self.expected { Ok(()) } else { Err(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::FileHash;

    #[test]
    fn small_files_hash_as_git_does() {
        // `printf 'hello\n' | git hash-object --stdin`
        let hash = FileHash::GitSha1("ce013625030ba8dba906f756967f9e9ca394464a".to_owned());
        let mut checker = hash.checker(6);
        checker.update(b"hel");
        checker.update(b"lo\n");
        assert_eq!(checker.finish(), Ok(()));
        assert!(hash.checker(6).finish().is_err());
    }
}

//! Computes the SHA-256 of a stream while it is read or written, or of a whole file, and shortens it to 16 bytes.

use crate::error::Failure;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use tulu_quantize::hex;

/// A reader or writer whose bytes are hashed as they pass.
#[derive(Debug)]
pub(super) struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashed<T> {
    /// Hashes all bytes that are read from or written to `inner` through this value.
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Returns the inner reader or writer.
    pub(super) fn into_inner(self) -> T {
        self.inner
    }

    /// Returns the SHA-256 of the bytes so far, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        hex(&self.hash.clone().finalize())
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Returns the SHA-256 of a whole file, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String, Failure> {
    let failed = |err: io::Error| Failure::io(path, "cannot read", &err);
    let mut file = Hashed::new(File::open(path).map_err(failed)?);
    io::copy(&mut file, &mut io::sink()).map_err(failed)?;
    Ok(file.sha256())
}

/// Returns the first 16 bytes of a SHA-256.
pub(super) fn first_half(hash: Sha256) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    half
}

//! SHA-256 of data that is read block by block, so that the caller can show progress and stop.

use crate::hex::hex;
use sha2::{Digest as _, Sha256};

/// Bytes in a block.
const BLOCK: usize = 1 << 20;

/// Returns the SHA-256, in hexadecimal, of all bytes that `read_block` reads. `read_block` gets a buffer of 1 MiB,
/// fills its start and returns the number of bytes; 0 means the end of the data.
///
/// # Errors
/// The first error of `read_block`.
pub fn sha256_of<E>(mut read_block: impl FnMut(&mut [u8]) -> Result<usize, E>) -> Result<String, E> {
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK]);
    loop {
        match read_block(&mut block)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(block.get(..n).unwrap_or(&block)),
        }
    }
}

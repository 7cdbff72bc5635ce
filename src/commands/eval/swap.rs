//! The base with one group of tensors of another file: a temporary GGUF file that exists only while it is evaluated.

use crate::error::Failure;
use crate::eval::TensorGroup;
use crate::interrupt::Interrupt;
use crate::watch::Watch;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::{Gguf, Place, align, open_parts, write_copy};

/// The group of tensors that is swapped.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    /// The group.
    pub(super) group: TensorGroup,
    /// The file that its tensors come from.
    pub(super) from: PathBuf,
}

/// A file that is deleted when this is dropped.
pub(super) struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A GGUF file with all its parts.
pub(super) struct Whole {
    /// The parts in order; the first has the metadata.
    pub(super) parts: Vec<Gguf>,
}

impl Whole {
    /// Opens a file, or all parts of a split one.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let (first, others) = open_parts(path)?;
        Ok(Self { parts: std::iter::once(first).chain(others).collect() })
    }

    /// Returns each tensor with its file.
    pub(super) fn tensors(&self) -> impl Iterator<Item = Place<'_>> {
        self.parts.iter().flat_map(|part| part.tensors.iter().map(move |tensor| (part, tensor)))
    }
}

impl Swap {
    /// Writes the file `to`: `base` with the group's tensors of the other file.
    pub(super) fn make(&self, to: &Path, base: &Path, interrupt: &Interrupt) -> Result<Made, Failure> {
        let (base, other) = (Whole::open(base)?, Whole::open(&self.from)?);
        let names: HashSet<&str> = self.group.tensors.iter().map(String::as_str).collect();
        let swapped = |name: &str| {
            if names.contains(name) { other.tensors().find(|(_, tensor)| tensor.name == name) } else { None }
        };
        let tensors: Vec<Place<'_>> = base.tensors().map(|place| swapped(&place.1.name).unwrap_or(place)).collect();
        let pairs = base.parts.first().map_or(&[][..], |first| &first.pairs);
        let pairs: Vec<_> = pairs.iter().filter(|(key, _)| !key.starts_with("split.")).cloned().collect();
        let made = Made(to.to_owned());
        let bytes = tensors.iter().fold(0_u64, |sum, (_, tensor)| sum.saturating_add(tensor.bytes));
        let watch = Watch::new("swapping", bytes, interrupt);
        let written = write_copy(to, &pairs, &tensors, &watch);
        watch.clear();
        written.map_err(|err| {
            let failure = Failure::from(err);
            Failure { exit: interrupt.asked().unwrap_or(failure.exit), ..failure }
        })?;
        Ok(made)
    }
}

/// Returns the bytes that tensors take in a file, with padding.
pub(super) fn padded(bytes: u64) -> u64 {
    align(bytes, tulu_quantize::gguf::ALIGNMENT).unwrap_or(u64::MAX)
}

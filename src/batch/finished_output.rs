//! Examines an output that exists before a run. It is either the finished result of the same command (then there is
//! nothing to do) or another file (which is not replaced).

use super::digest::sha256_of;
use super::identity::Identity;
use super::manifest::Manifest;
use super::record_key::InputIndex;
use super::shard::Shard;
use crate::error::{Code, Failure};
use std::path::Path;

/// Returns the manifest of the existing `output` if it may be the result of this command: input and shard are equal,
/// and no record failed. [`check_unchanged`] compares the settings later.
///
/// # Errors
/// `OUTPUT_EXISTS` if it is another output.
pub(crate) fn find_finished(output: &Path, index: &InputIndex, shard: Shard) -> Result<Manifest, Failure> {
    let manifest = match Manifest::find(output) {
        Err(failure) if failure.code == Code::Manifest => None,
        other => other?,
    };
    let manifest = manifest.ok_or_else(|| output_exists(output, ""))?;
    let input = &manifest.input;
    if (&input.sha256, input.records) != (&index.sha256, index.len()) {
        return Err(output_exists(output, ", for another input"));
    }
    if manifest.output.failed > 0 || manifest.shard != shard.part() {
        return Err(output_exists(output, ", of another run"));
    }
    Ok(manifest)
}

/// Checks that the run of `manifest` had the same identity as this one, and that `output` was not modified since.
///
/// # Errors
/// `OUTPUT_EXISTS` if something changed.
pub(crate) fn check_unchanged(output: &Path, manifest: &Manifest, identity: &Identity) -> Result<(), Failure> {
    let differs = identity.differences(&manifest.identity());
    if !differs.is_empty() {
        return Err(output_exists(output, &format!(", and {} changed since", differs.join(" and "))));
    }
    if sha256_of(output)? != manifest.output.sha256 {
        return Err(output_exists(output, ", and was modified after its run finished"));
    }
    Ok(())
}

/// Returns the error `OUTPUT_EXISTS`; its text is "already exists" followed by `why`.
pub(crate) fn output_exists(output: &Path, why: &str) -> Failure {
    let fix = "give another -o, or --force to replace it";
    Failure::input(Code::OutputExists, format!("already exists{why}"), fix).at(output)
}

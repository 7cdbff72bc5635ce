//! Converts a checkpoint to files that are evaluated and deleted.

use super::super::conversion;
use super::work_folder::WorkFolder;
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::model::resolve::available_threads;
use crate::model::streaming::CheckpointSource;
use crate::sanitize::{one_line, shown};
use crate::stderr;
use crate::table;
use std::path::PathBuf;
use tulu_quantize::{Checkpoint, ConvertOptions, Ftype, GgmlType, Plan, QuantizeOptions, memory_needed};

/// Returns the type that holds the weights of a checkpoint best in 16 bits: its own.
pub(in super::super) fn base_type(source: &Checkpoint) -> Ftype {
    let mut matrices = source.tensors.iter().filter(|tensor| tensor.shape.len() > 1);
    if matrices.all(|tensor| tensor.dtype == GgmlType::F16) { Ftype::F16 } else { Ftype::BF16 }
}

/// Converts `opened` to all `types` in one pass, into `folder`. `mark` is a part of the files' names.
pub(super) fn convert(
    opened: &CheckpointSource,
    types: &[Ftype],
    recipe: &QuantizeOptions,
    (folder, mark): (&WorkFolder, &str),
    interrupt: &Interrupt,
) -> Result<Vec<PathBuf>, Failure> {
    let source = opened.checkpoint();
    let name = source.name().replace(['/', '\\'], "-");
    let outputs: Vec<(Ftype, PathBuf)> =
        types.iter().map(|ftype| (*ftype, folder.path().join(format!("{name}{mark}-{ftype}.gguf")))).collect();
    let plan = Plan::new(source, &outputs, recipe)?;
    let threads = available_threads();
    let memory = memory_needed(&plan, threads).saturating_add(opened.stream_memory(&plan));
    let names: Vec<&str> = types.iter().map(|ftype| ftype.name()).collect();
    let reads = match opened.remote_name() {
        Some(place) => format!("fetches {} from {}", table::bytes(plan.source_bytes), one_line(&place)),
        None => format!("reads {}", table::bytes(plan.source_bytes)),
    };
    stderr::line(&format!(
        "Converting {} ({} weights) to {}: {reads}, needs {} of disk until the end, in {}, and about {} of memory",
        one_line(&source.name()),
        table::params(plan.n_params),
        names.join(", "),
        table::bytes(plan.output_bytes()),
        shown(folder.path()),
        table::bytes(memory),
    ));
    let options = ConvertOptions { threads, replace: true, reference_kernels: false };
    conversion::run(opened, &plan, options, interrupt)?;
    Ok(outputs.into_iter().map(|(_, path)| path).collect())
}

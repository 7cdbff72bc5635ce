//! `--list-devices`: prints the GPUs, and how many layers of a model fit.

use super::local_model::{self, LocalModel};
use crate::engine::{EngineSettings, Model, gpus, no_gpu};
use crate::error::{Exit, Failure};
use crate::sanitize::{one_line, shown};
use crate::stderr;
use crate::table::{self, Align, bytes};
use std::ffi::OsStr;

/// Prints the GPUs, and for a model that is on this machine how many layers fit.
pub(super) fn list(model: Option<&OsStr>, settings: &EngineSettings, n_slots: u32) -> Result<Exit, Failure> {
    let all = gpus()?;
    if all.is_empty() {
        stderr::note(&no_gpu("offloading layers").what);
    }
    let mut rows = vec![["device", "hardware", "backend", "memory", "free"].map(str::to_owned).to_vec()];
    for device in &all {
        rows.push(vec![
            one_line(&device.name),
            one_line(&device.description),
            one_line(&device.backend),
            bytes(device.total),
            bytes(device.free),
        ]);
    }
    let align = [Align::Left, Align::Left, Align::Left, Align::Right, Align::Right];
    let mut out = if all.is_empty() { String::new() } else { table::render(&align, &rows) };
    match model.filter(|_| !all.is_empty()).map(local_model::find).transpose()? {
        None => {}
        Some(LocalModel::File(path)) => {
            let forecast = Model::forecast(&path, settings, n_slots)?;
            out += &format!("\n{} with {} tokens of context:\n", shown(&path), forecast.n_ctx);
            forecast.lines().iter().for_each(|line| out += &format!("  {line}\n"));
            out += &format!("  main memory: {}\n", bytes(forecast.main_bytes));
        }
        Some(LocalModel::Folder(_)) => stderr::note("give a .gguf file, or NAME:TYPE, to see how many layers fit"),
    }
    crate::stdout::print(&out)
}

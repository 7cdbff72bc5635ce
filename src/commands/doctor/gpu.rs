//! The GPUs in `doctor`: which there are, the files of backends, and the self-test of each device.

use crate::engine::{BackendFile, Device, Kind, backend_files, shown_device};
use crate::error::{Code, Failure};
use crate::table;
use llama_ext::{GgmlType, cpu_check, device_check};
use serde_json::{Value, json};

/// Maximum error of a product. Activations are rounded to 8 bits; correct results stay well below this.
pub(super) const TOLERANCE: f64 = 0.05;

/// Maximum error on a GPU. Some multiply and add in f16.
const TOLERANCE_ON_GPUS: f64 = 0.1;

/// The types that are multiplied on GPUs.
const TESTED_ON_GPUS: [GgmlType; 6] =
    [GgmlType::Q4_K, GgmlType::Q5_K, GgmlType::Q6_K, GgmlType::Q8_0, GgmlType::F16, GgmlType::BF16];

/// Tests a GPU: products of the common types, and an attention. What it has no kernel for is left out: llama.cpp then
/// computes it on the CPU.
pub(super) fn test(device: &Device) -> Result<Vec<Value>, Failure> {
    let failed = |err: llama_ext::Error| {
        Failure::engine(Code::SelfTest, format!("{}: {err}", shown_device(device)), "run without it: -dev none")
    };
    let row = |kind: &str, error: f32| {
        let ok = f64::from(error) < TOLERANCE_ON_GPUS;
        json!({"type": kind, "buffer": device.name, "error": error, "ok": ok})
    };
    let mut results = Vec::new();
    for kind in TESTED_ON_GPUS {
        let tested = cpu_check::matmul_test_on(device, kind).map_err(failed)?;
        results.extend(tested.map(|found| row(kind.name(), found.error)));
    }
    results.extend(device_check::attention_test(device).map_err(failed)?.map(|error| row("attn", error)));
    Ok(results)
}

/// Returns a line for each GPU, or a line that there is none.
pub(super) fn text(devices: &[Device], backends: &[String]) -> String {
    if devices.is_empty() {
        let why = if backends.is_empty() {
            "no backend in this program".to_owned()
        } else {
            backends.join(", ") + ": no device"
        };
        return format!("GPU          none ({why})\n") + &backend_files_text();
    }
    let line = |device: &Device| {
        let (free, total) = (table::bytes(device.free), table::bytes(device.total));
        format!(
            "GPU          {}, {}: {free} free of {total}\n",
            shown_device(device),
            crate::sanitize::one_line(&device.backend)
        )
    };
    devices.iter().map(line).collect::<String>() + &backend_files_text()
}

pub(super) fn device_json(device: &Device) -> Value {
    json!({"name": device.name, "hardware": device.description, "backend": device.backend,
           "integrated": device.kind == Kind::IntegratedGpu, "memory_total": device.total, "memory_free": device.free})
}

/// Returns the GPU backends beside the program as JSON; `error` is null for those that were loaded.
pub(super) fn backend_files_json() -> Value {
    let one =
        |file: &BackendFile| json!({"file": file.path.display().to_string(), "error": file.loaded.as_ref().err()});
    backend_files().iter().map(one).collect()
}

/// Returns them as text, a line each.
fn backend_files_text() -> String {
    let line = |file: &BackendFile| {
        let state = file.loaded.as_ref().map_or_else(|why| format!("not loaded: {why}"), |()| "loaded".to_owned());
        format!("backend      {}: {}\n", crate::sanitize::shown(&file.path), crate::sanitize::one_line(&state))
    };
    backend_files().iter().map(line).collect()
}

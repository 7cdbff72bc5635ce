//! GPUs in `doctor`: the backends in the program and in files beside it, their devices, and the self-test of each device.

use crate::engine::{BackendFile, backend_files, gpus, shown_device};
use crate::error::{Code, Failure};
use crate::{sanitize, table};
use llama_ext::devices::{Device, Kind, gpu_backends};
use llama_ext::{GgmlType, cpu_check, device_check};
use serde_json::{Value, json};

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

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    devices: Vec<Device>,
    /// Names of the GPU backends, such as `CUDA`, also of those without a device.
    pub(super) backends: Vec<String>,
    files: &'static [BackendFile],
}

impl Found {
    /// Asks all backends.
    ///
    /// # Errors
    /// `ENGINE` when llama.cpp cannot be initialized.
    pub(super) fn now() -> Result<Self, Failure> {
        Ok(Self { devices: gpus()?, backends: gpu_backends(), files: backend_files() })
    }

    /// Returns what to do about files that cannot be used.
    pub(super) fn advice(&self) -> impl Iterator<Item = String> {
        let advice = |file: &BackendFile| {
            let why = file.loaded.as_ref().err()?;
            Some(format!("{} cannot be used: {why}; remove or replace it (docs/gpu.md)", file.path.display()))
        };
        self.files.iter().filter_map(advice)
    }

    /// Returns a line for each GPU, or one that there is none, and a line for each file.
    pub(super) fn text(&self) -> String {
        let device = |device: &Device| {
            let (free, total) = (table::bytes(device.free), table::bytes(device.total));
            let backend = sanitize::one_line(&device.backend);
            format!("GPU          {}, {backend}: {free} free of {total}\n", shown_device(device))
        };
        let file = |file: &BackendFile| {
            let state = file.loaded.as_ref().map_or_else(|why| format!("not loaded: {why}"), |()| "loaded".to_owned());
            format!("backend      {}: {}\n", sanitize::shown(&file.path), sanitize::one_line(&state))
        };
        let none = if self.backends.is_empty() {
            "GPU          none (no backend in this program)\n".to_owned()
        } else {
            format!("GPU          none ({}: no device)\n", self.backends.join(", "))
        };
        let devices: String = self.devices.iter().map(device).collect();
        let devices = if devices.is_empty() { none } else { devices };
        devices + &self.files.iter().map(file).collect::<String>()
    }

    /// Returns the files as JSON; `error` is null for those that were loaded.
    pub(super) fn files_json(&self) -> Value {
        let one =
            |file: &BackendFile| json!({"file": file.path.display().to_string(), "error": file.loaded.as_ref().err()});
        self.files.iter().map(one).collect()
    }

    /// Returns the devices as JSON.
    pub(super) fn devices_json(&self) -> Value {
        let one = |device: &Device| {
            json!({"name": device.name, "hardware": device.description, "backend": device.backend,
                   "integrated": device.kind == Kind::IntegratedGpu, "memory_total": device.total,
                   "memory_free": device.free})
        };
        self.devices.iter().map(one).collect()
    }
}

//! What llama.cpp can compute on here.

use super::model::backend;
use crate::error::Failure;
use llama_cpp_2::{LlamaBackendDeviceType as Type, list_llama_ggml_backend_devices};

/// Names of the GPU backends that have a device here, such as `CUDA`; empty when there is none.
pub(crate) fn gpus() -> Result<Vec<String>, Failure> {
    backend()?;
    let mut names: Vec<String> = list_llama_ggml_backend_devices()
        .into_iter()
        .filter(|device| matches!(device.device_type, Type::Gpu | Type::IntegratedGpu))
        .map(|device| device.backend)
        .collect();
    names.dedup();
    Ok(names)
}

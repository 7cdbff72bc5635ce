//! The devices that ggml has: GPUs, the CPU, and accelerators such as our own ([`crate::accel`]). What they support, and a
//! trial of a model on them.

use crate::{Error, GgmlType};
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, c_char};

/// Room for names; the C++ struct has the same.
const NAME: usize = 64;

#[repr(C)]
struct RawDevice {
    kind: i32,
    splits_rows: bool,
    total: u64,
    free: u64,
    name: [c_char; NAME],
    description: [c_char; 2 * NAME],
    backend: [c_char; NAME],
    id: [c_char; NAME],
}

unsafe extern "C" {
    fn llama_ext_device(index: usize, to: *mut RawDevice) -> i32;
    fn llama_ext_device_attends(index: usize, dim: i64, n_head: i64, n_head_kv: i64, k_type: i32, v_type: i32) -> bool;
    fn llama_ext_try_context(
        model: *mut sys::llama_model,
        params: *const sys::llama_context_params,
        n_tokens: i32,
        devices: *const usize,
        n_devices: usize,
        used: *mut u64,
        message: *mut c_char,
        message_size: usize,
    ) -> i32;
    fn llama_ext_leave_large_products(leave: bool);
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A GPU with memory of its own.
    Gpu,
    /// A GPU that uses the main memory.
    IntegratedGpu,
    /// The CPU.
    Cpu,
    /// Computes in main memory, beside the CPU: BLAS, or our kernels.
    Accelerator,
}

/// A device of ggml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number in ggml's list, which only grows.
    pub index: usize,
    /// ggml's name, such as `CUDA0`.
    pub name: String,
    /// The name of the hardware.
    pub description: String,
    /// The backend, such as `CUDA`.
    pub backend: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its memory; 0 if it does not report them.
    pub total: u64,
    /// Bytes that are free now.
    pub free: u64,
    /// Identifies the hardware over all backends (the PCI address); empty if unknown.
    pub id: String,
    /// Whether a matrix can be split by rows over this and other devices of its backend.
    pub splits_rows: bool,
}

/// Returns all devices.
#[must_use]
pub fn devices(_: &LlamaBackend) -> Vec<Device> {
    let mut all = Vec::new();
    for index in 0.. {
        // SAFETY: a struct of numbers and of arrays of numbers, for which all zeros is a valid value.
        let mut raw: RawDevice = unsafe { std::mem::zeroed() };
        // SAFETY: writes only to the struct, which has the layout of the C++ one. The C++ function catches exceptions. The
        // argument of this function proves that ggml is initialized.
        match unsafe { llama_ext_device(index, &raw mut raw) } {
            0 => {}
            3 => break,
            _ => continue,
        }
        let kind = match raw.kind.cast_unsigned() {
            sys::GGML_BACKEND_DEVICE_TYPE_GPU => Kind::Gpu,
            sys::GGML_BACKEND_DEVICE_TYPE_IGPU => Kind::IntegratedGpu,
            sys::GGML_BACKEND_DEVICE_TYPE_CPU => Kind::Cpu,
            _ => Kind::Accelerator,
        };
        all.push(Device {
            index,
            name: text(&raw.name),
            description: text(&raw.description),
            backend: text(&raw.backend),
            kind,
            total: raw.total,
            free: raw.free,
            id: text(&raw.id),
            splits_rows: raw.splits_rows,
        });
    }
    all
}

/// Returns the names of the backends for GPUs that this program has, such as `CUDA`, whether or not they find a device.
#[must_use]
pub fn gpu_backends() -> Vec<String> {
    /// Backends that compute in main memory.
    const OTHERS: [&str; 4] = ["CPU", "BLAS", "TULU", "ZenDNN"];
    // SAFETY: no arguments.
    let count = unsafe { sys::ggml_backend_reg_count() };
    // SAFETY: the number is below the count, which is all that ggml asserts. Names are static strings.
    let name =
        |number| unsafe { crate::ggml_type::copy_c_str(sys::ggml_backend_reg_name(sys::ggml_backend_reg_get(number))) };
    (0..count).map(name).filter(|name| !OTHERS.contains(&name.as_str())).collect()
}

/// Attention of a model: values in a head, heads, heads of keys and values, and the types of the KV cache.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Values in one head.
    pub dim: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key-value heads.
    pub n_head_kv: u32,
    /// Type of the keys.
    pub k_type: GgmlType,
    /// Type of the values.
    pub v_type: GgmlType,
}

/// Returns whether a device has a kernel for flash attention of this shape.
#[must_use]
pub fn attends(device: &Device, shape: AttentionShape) -> bool {
    let AttentionShape { dim, n_head, n_head_kv, k_type, v_type } = shape;
    let whole = |kind: GgmlType| (dim as usize).is_multiple_of(kind.block_size());
    if dim == 0 || n_head_kv == 0 || !n_head.is_multiple_of(n_head_kv) || !whole(k_type) || !whole(v_type) {
        return false;
    }
    // SAFETY: takes numbers only, and allocates no tensor data. ggml asserts that rows are whole blocks and that heads can
    // be divided, which was checked above. The C++ function catches exceptions.
    unsafe {
        llama_ext_device_attends(
            device.index,
            i64::from(dim),
            i64::from(n_head),
            i64::from(n_head_kv),
            k_type.id() as i32,
            v_type.id() as i32,
        )
    }
}

/// Bytes that a model and a context take in one memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Weights.
    pub weights: u64,
    /// KV cache.
    pub cache: u64,
    /// Compute buffers.
    pub compute: u64,
}

/// Creates a context, computes `n_tokens` tokens with it, and frees it. `devices` are those that the model was loaded on.
/// Returns the memory used of each device, then that of main memory.
///
/// # Errors
/// [`Error::Native`] when llama.cpp failed, usually because a device has no memory left.
pub fn try_context(
    model: &LlamaModel,
    params: &LlamaContextParams,
    n_tokens: u16,
    devices: &[usize],
) -> Result<Vec<Use>, Error> {
    const { assert!(size_of::<LlamaContextParams>() == size_of::<sys::llama_context_params>()) };
    const { assert!(size_of::<&LlamaModel>() == size_of::<*mut sys::llama_model>()) };
    let mut used = vec![0_u64; 3 * (devices.len() + 1)];
    let mut message: [c_char; 512] = [0; 512];
    crate::log::clear();
    // SAFETY: at the pinned version `LlamaModel` is `repr(transparent)` over a pointer (see load.rs), which is read from it
    // here. `LlamaContextParams` has one field, the C struct (see abort.rs). `devices` and `used` have the lengths that
    // the C++ function expects, and it ends the message with a NUL. It catches exceptions and frees what it makes.
    let status = unsafe {
        llama_ext_try_context(
            *std::ptr::from_ref(model).cast::<*mut sys::llama_model>(),
            std::ptr::from_ref(params).cast::<sys::llama_context_params>(),
            i32::from(n_tokens),
            devices.as_ptr(),
            devices.len(),
            used.as_mut_ptr(),
            message.as_mut_ptr(),
            message.len(),
        )
    };
    match status {
        0 => {
            let uses = used.chunks_exact(3);
            Ok(uses.map(|one| Use { weights: one[0], cache: one[1], compute: one[2] }).collect())
        }
        _ => {
            let message = text(&message);
            Err(Error::Native(if message.is_empty() { crate::log::tail() } else { message }))
        }
    }
}

/// Sets whether our device ([`crate::accel`]) leaves products with many columns to others. llama.cpp then copies the
/// weights of layers on the CPU to a GPU for long prompts, which is faster there.
pub fn leave_large_products(leave: bool) {
    // SAFETY: stores a flag.
    unsafe { llama_ext_leave_large_products(leave) };
}

/// Returns the text in a field that ends with a NUL.
fn text(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|byte| byte.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&bytes).map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}

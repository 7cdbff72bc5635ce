//! The GPUs: which there are, which a run uses, and how much of their memory it may use.

use super::backend::backend;
use super::gpu_settings::{GpuLayers, GpuSettings, SplitMode};
use crate::error::{Code, Failure};
use crate::sanitize::one_line;
pub(crate) use llama_ext::devices::{Device, Kind};

/// The part of a device's free memory that is left free for what llama.cpp allocates later, and for the display: one of
/// this many, at most [`MARGIN_MAX`].
const MARGIN_PART: u64 = 10;
/// The largest margin of a device, in bytes: llama.cpp's default.
const MARGIN_MAX: u64 = 1 << 30;

/// Returns all GPUs, whether or not a run would use them.
///
/// # Errors
/// `ENGINE` when llama.cpp cannot be initialized.
pub(crate) fn gpus() -> Result<Vec<Device>, Failure> {
    let all = llama_ext::devices::devices(backend()?);
    Ok(all.into_iter().filter(|device| matches!(device.kind, Kind::Gpu | Kind::IntegratedGpu)).collect())
}

/// A device that a run may use.
#[derive(Clone, Debug)]
pub(crate) struct Usable {
    pub(crate) device: Device,
    /// Bytes that the run may use of its memory; 0 if the device does not report its memory.
    pub(crate) budget: u64,
}

impl Usable {
    /// Whether the device uses the main memory.
    pub(crate) fn shares_main_memory(&self) -> bool {
        self.device.kind == Kind::IntegratedGpu
    }
}

/// Returns the devices that a run with these settings uses; none if everything is to be on the CPU.
///
/// # Errors
/// `GPU`: a device is asked for that does not exist, or layers without any device.
pub(crate) fn usable(settings: &GpuSettings) -> Result<Vec<Usable>, Failure> {
    if settings.layers == GpuLayers::Count(0) {
        return Ok(Vec::new());
    }
    let all = gpus()?;
    let mut chosen = match &settings.devices {
        None => default_choice(all),
        Some(names) => named(&all, names)?,
    };
    if chosen.is_empty() {
        return match (settings.layers, &settings.devices) {
            (GpuLayers::Auto, _) | (_, Some(_)) => Ok(Vec::new()),
            _ => Err(no_gpu(&format!("-ngl {}", settings.layers.name()))),
        };
    }
    if settings.main >= chosen.len() {
        let what = format!("--main-gpu {} is not one of the {} devices", settings.main, chosen.len());
        return Err(Failure::input(Code::Gpu, what, "count from 0; --list-devices shows them"));
    }
    if settings.split == SplitMode::None {
        chosen = vec![chosen.swap_remove(settings.main)];
    }
    if let Some(device) = chosen.iter().find(|device| settings.split == SplitMode::Row && !device.splits_rows) {
        let what = format!("--split-mode row: {} cannot split matrices by rows", shown(device));
        return Err(Failure::input(Code::Gpu, what, "use --split-mode layer"));
    }
    if settings.shares.len() > chosen.len() {
        let what = format!("--tensor-split has {} shares for {} devices", settings.shares.len(), chosen.len());
        return Err(Failure::input(Code::Gpu, what, "give one share for each device; --list-devices shows them"));
    }
    let limit = |at: usize| settings.memory.get(at).or(settings.memory.last()).copied().unwrap_or(u64::MAX);
    let taken = |device: &Device| {
        settings.taken.iter().filter(|(index, _)| *index == device.index).map(|(_, bytes)| bytes).sum::<u64>()
    };
    let mut usable: Vec<Usable> = Vec::new();
    for (at, device) in chosen.into_iter().enumerate() {
        let budget = budget(device.free.min(limit(at))).saturating_sub(taken(&device));
        usable.push(Usable { device, budget });
    }
    // A draft model that would take most of a device is better on the CPU.
    if let Some(largest) =
        usable.iter_mut().max_by_key(|one| one.budget).filter(|one| settings.reserved < one.budget / 2)
    {
        largest.budget -= settings.reserved;
    }
    Ok(usable)
}

/// Returns the bytes that a run may use of a device with `free` bytes.
fn budget(free: u64) -> u64 {
    free - (free / MARGIN_PART).min(MARGIN_MAX)
}

/// Returns the error for something that needs a GPU, where there is none.
pub(crate) fn no_gpu(flag: &str) -> Failure {
    let backends = llama_ext::devices::gpu_backends();
    let what = match backends.is_empty() {
        true => format!("{flag} needs a GPU backend, and this program has none"),
        false => format!("{flag} needs a GPU, and {} finds none here", backends.join(", ")),
    };
    Failure::input(Code::Gpu, what, "leave it out to run on the CPU; docs/gpu.md says how to get a backend")
}

/// Chooses as llama.cpp does: each GPU once, even if several backends have it; integrated GPUs only if there is no other.
fn default_choice(all: Vec<Device>) -> Vec<Device> {
    let mut chosen: Vec<Device> = Vec::new();
    let wanted = if all.iter().any(|device| device.kind == Kind::Gpu) { Kind::Gpu } else { Kind::IntegratedGpu };
    for device in all.into_iter().filter(|device| device.kind == wanted) {
        let same = |other: &Device| !device.id.is_empty() && other.id == device.id && other.backend != device.backend;
        let other_backend = |first: &Device| first.backend != device.backend;
        let integrated_twice = wanted == Kind::IntegratedGpu && chosen.first().is_some_and(other_backend);
        if !chosen.iter().any(same) && !integrated_twice {
            chosen.push(device);
        }
    }
    chosen
}

/// Returns the devices with these names, in this order.
fn named(all: &[Device], names: &[String]) -> Result<Vec<Device>, Failure> {
    let mut chosen: Vec<Device> = Vec::new();
    for name in names {
        let Some(device) = all.iter().find(|device| device.name.eq_ignore_ascii_case(name)) else {
            if all.is_empty() {
                return Err(no_gpu(&format!("--device {}", one_line(name))));
            }
            let what = format!("--device: there is no device {}", one_line(name));
            let known: Vec<&str> = all.iter().map(|device| device.name.as_str()).collect();
            return Err(Failure::input(Code::Gpu, what, format!("give some of {}, or none", known.join(", "))));
        };
        if chosen.iter().any(|other| other.index == device.index) {
            let what = format!("--device has {} twice", device.name);
            return Err(Failure::input(Code::Gpu, what, "give each device once"));
        }
        chosen.push(device.clone());
    }
    Ok(chosen)
}

/// Returns the name of a device, and of its hardware.
pub(crate) fn shown(device: &Device) -> String {
    format!("{} ({})", one_line(&device.name), one_line(&device.description))
}

#[cfg(test)]
mod tests {
    use super::{Device, Kind, budget, default_choice, named};
    use crate::error::Code;

    fn device(index: usize, name: &str, backend: &str, kind: Kind, id: &str) -> Device {
        Device {
            index,
            name: name.to_owned(),
            description: "a card".to_owned(),
            backend: backend.to_owned(),
            kind,
            total: 8 << 30,
            free: 8 << 30,
            id: id.to_owned(),
            splits_rows: false,
        }
    }

    fn names(chosen: &[Device]) -> Vec<&str> {
        chosen.iter().map(|device| device.name.as_str()).collect()
    }

    #[test]
    fn each_card_is_used_once_and_integrated_ones_only_alone() {
        let cuda = device(0, "CUDA0", "CUDA", Kind::Gpu, "01:00");
        let vulkan = device(1, "Vulkan0", "Vulkan", Kind::Gpu, "01:00");
        let other = device(2, "Vulkan1", "Vulkan", Kind::Gpu, "02:00");
        let small = device(3, "Vulkan2", "Vulkan", Kind::IntegratedGpu, "");
        let sycl = device(4, "SYCL0", "SYCL", Kind::IntegratedGpu, "");
        assert_eq!(names(&default_choice(vec![cuda, vulkan, other, small.clone()])), ["CUDA0", "Vulkan1"]);
        assert_eq!(names(&default_choice(vec![small, sycl])), ["Vulkan2"]);
        assert!(default_choice(Vec::new()).is_empty());
    }

    #[test]
    fn devices_are_named_in_any_order_once() {
        let all = [device(0, "CUDA0", "CUDA", Kind::Gpu, ""), device(1, "CUDA1", "CUDA", Kind::Gpu, "")];
        let chosen = |list: &[&str]| named(&all, &list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&chosen(&["cuda1", "CUDA0"]).unwrap()), ["CUDA1", "CUDA0"]);
        assert!(chosen(&[]).unwrap().is_empty());
        let unknown = chosen(&["CUDA2"]).unwrap_err();
        assert!(unknown.code == Code::Gpu && unknown.fix.contains("CUDA0, CUDA1"), "{unknown}");
        assert!(chosen(&["CUDA0", "CUDA0"]).unwrap_err().what.contains("twice"));
    }

    #[test]
    fn a_margin_is_left() {
        assert_eq!(budget(1000), 900);
        assert_eq!(budget(80 << 30), 79 << 30);
        assert_eq!(budget(0), 0);
    }
}

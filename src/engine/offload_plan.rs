//! Chooses the layers for each device, with the context size and the KV cache, so that every memory holds its part. Only
//! arithmetic; the bytes come from the header of the file.

use super::devices::{Usable, shown};
use super::gpu_settings::GpuLayers;
use super::memory_plan::KvPlan;
use super::model_dims::{ModelDims, mask_bytes};
use super::settings::{EngineSettings, N_CTX_MIN, N_UBATCH};
use super::tensor_sizes::TensorSizes;
use crate::error::{Code, Failure};
use crate::platform::Available;
use crate::table::bytes;

/// Without `-c`, the context is reduced down to this many tokens before layers stay on the CPU: llama.cpp's default.
const N_CTX_KEPT: u32 = 4096;
/// Steps in which the devices are filled: all to the same part of what may be used.
const FILL_STEPS: u32 = 64;

/// A model and its settings, which need memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand<'a> {
    pub(super) dims: &'a ModelDims,
    pub(super) sizes: &'a TensorSizes,
    pub(super) settings: &'a EngineSettings,
}

/// The layers of each device, and what they need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Layers on each device. They are the last ones of the model; the output layer counts as one.
    pub(crate) layers: Vec<u32>,
    /// Bytes needed on each device.
    pub(crate) device_bytes: Vec<u64>,
    /// Bytes of main memory needed.
    pub(crate) main_bytes: u64,
}

impl Placement {
    /// Number of layers on devices.
    pub(crate) fn n_layers(&self) -> u32 {
        self.layers.iter().sum()
    }
}

impl Demand<'_> {
    /// Number of layers that can be on devices.
    pub(super) fn n_layers(&self) -> u32 {
        self.sizes.n_layers()
    }

    /// Returns the placement with these numbers of layers, and what it needs with `n_cells` tokens in the KV cache.
    pub(super) fn placement(&self, n_cells: u32, layers: Vec<u32>) -> Placement {
        let mut first = self.n_layers() - layers.iter().sum::<u32>().min(self.n_layers());
        let main_bytes = self.main_bytes(n_cells, first);
        let offloaded = self.n_layers() - first;
        let mut device_bytes = Vec::new();
        for count in &layers {
            device_bytes.push(self.device_bytes(n_cells, first, first + count, offloaded));
            first += count;
        }
        Placement { layers, device_bytes, main_bytes }
    }

    fn kv_bytes(&self, n_cells: u32, n_blocks: u64) -> u64 {
        let per_cell = self.dims.kv_bytes_per_cell(self.settings.type_k, self.settings.type_v);
        (per_cell / u64::from(self.dims.n_layer.max(1))).saturating_mul(n_blocks).saturating_mul(u64::from(n_cells))
    }

    /// Returns the bytes of main memory if the layers from `first` on are on devices.
    fn main_bytes(&self, n_cells: u32, first: u32) -> u64 {
        let end = if self.settings.gpu.kv_offload { first } else { self.n_layers() };
        let kv = self.kv_bytes(n_cells, self.sizes.n_blocks(0, end));
        let compute = self.dims.compute_bytes(self.settings, n_cells);
        self.sizes.in_main_memory(first).saturating_add(kv).saturating_add(compute)
    }

    /// Returns the bytes of a device with the layers from `first` to before `end`, if `offloaded` layers are on devices:
    /// their weights, their KV cache, and the compute buffers. For long prompts, llama.cpp also copies the weights of layers
    /// on the CPU to a device, one matrix after the other.
    fn device_bytes(&self, n_cells: u32, first: u32, end: u32, offloaded: u32) -> u64 {
        if first == end {
            return 0;
        }
        let kv_offload = self.settings.gpu.kv_offload;
        let kv = if kv_offload { self.kv_bytes(n_cells, self.sizes.n_blocks(first, end)) } else { 0 };
        let logits = if end == self.n_layers() { u64::from(self.dims.n_vocab) } else { 0 };
        let mask = if kv_offload { mask_bytes(self.dims, self.settings) * u64::from(n_cells) } else { 0 };
        let compute = u64::from(N_UBATCH.min(n_cells)) * (4 * (logits + 16 * u64::from(self.dims.n_embd)) + mask);
        let copies = if offloaded < self.n_layers() { 2 * self.sizes.largest() } else { 0 };
        self.sizes.on_device(first, end).saturating_add(kv).saturating_add(compute).saturating_add(copies)
    }

    /// Places `n_layers` layers, if every memory holds its part. Devices are filled to the same part of what may be used of
    /// them; with `shares`, in proportion to these.
    fn place(&self, n_cells: u32, n_layers: u32, rooms: &Rooms<'_>) -> Option<Placement> {
        let shares = &self.settings.gpu.shares;
        let fits = |placement: &Placement| rooms.hold(placement);
        if !shares.iter().all(|share| *share == 0.0) {
            return Some(self.placement(n_cells, proportional(n_layers, shares, rooms.devices.len()))).filter(fits);
        }
        (1..=FILL_STEPS).find_map(|step| self.fill(n_cells, n_layers, rooms.devices, step)).filter(fits)
    }

    /// Puts layers on each device until `step` / [`FILL_STEPS`] of what may be used is full. `None`: not all have a place.
    fn fill(&self, n_cells: u32, n_layers: u32, devices: &[Usable], step: u32) -> Option<Placement> {
        let mut first = self.n_layers() - n_layers;
        let mut layers = Vec::new();
        for one in devices {
            let part = u128::from(one.budget) * u128::from(step) / u128::from(FILL_STEPS);
            let holds = |end: &u32| u128::from(self.device_bytes(n_cells, first, *end, n_layers)) <= part;
            let end = (first..=self.n_layers()).take_while(holds).last().unwrap_or(first);
            layers.push(end - first);
            first = end;
        }
        (first == self.n_layers()).then(|| self.placement(n_cells, layers))
    }

    /// Returns the placement of as many layers as fit, at most `most`.
    fn largest(&self, n_cells: u32, most: u32, rooms: &Rooms<'_>) -> Option<Placement> {
        (1..=most.min(self.n_layers())).rev().find_map(|n_layers| self.place(n_cells, n_layers, rooms))
    }
}

/// Returns the layers of each device in proportion to `shares`, by llama.cpp's rule: a layer belongs to the first device
/// whose sum of shares, with those before it, is above the layer's position.
fn proportional(n_layers: u32, shares: &[f32], n_devices: usize) -> Vec<u32> {
    let total: f32 = shares.iter().sum();
    let mut layers = vec![0; n_devices];
    for layer in 0..n_layers {
        let position = layer as f32 / n_layers as f32;
        let mut sum = 0.0;
        let at = shares.iter().position(|share| {
            sum += share;
            sum / total > position
        });
        if let Some(count) = layers.get_mut(at.unwrap_or(n_devices.saturating_sub(1))) {
            *count += 1;
        }
    }
    layers
}

/// The memories of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rooms<'a> {
    pub(super) devices: &'a [Usable],
    /// Bytes of main memory that are available.
    pub(super) main: u64,
}

impl Rooms<'_> {
    /// Whether each memory holds its part. Integrated GPUs use the main memory.
    fn hold(&self, placement: &Placement) -> bool {
        let parts = || self.devices.iter().zip(&placement.device_bytes);
        let shared: u64 = parts().filter(|(one, _)| one.shares_main_memory()).map(|(_, bytes)| bytes).sum();
        // A device that does not report its memory is used only if the user says how many layers.
        let held = |(one, bytes): (&Usable, &u64)| *bytes <= one.budget || one.device.total == 0 && one.budget == 0;
        parts().all(held) && placement.main_bytes.saturating_add(shared) <= self.main
    }
}

/// Plans the layers for each device, the context size and the KV cache. At most `most` layers are on devices. The placement
/// has no layers if everything is on the CPU.
///
/// Without `-c`, the context is reduced to not less than [`N_CTX_KEPT`] tokens before layers stay on the CPU.
///
/// # Errors
/// `MEMORY`, `CTX_SIZE`, `KV_TOKENS`: the run does not fit. With a number of layers (`-ngl`), the error says how many fit.
pub(super) fn plan(
    demand: &Demand<'_>,
    n_slots: Option<u32>,
    available: &Available,
    devices: &[Usable],
    most: u32,
) -> Result<(KvPlan, Placement), Failure> {
    let Demand { dims, settings, .. } = *demand;
    let rooms = Rooms { devices, main: available.bytes };
    let (wanted, by_user) = match settings.gpu.layers {
        GpuLayers::Auto => (demand.n_layers().min(most), false),
        GpuLayers::All => (demand.n_layers(), true),
        GpuLayers::Count(n) => (n.min(demand.n_layers()), true),
    };
    if devices.is_empty() || wanted == 0 {
        return on_cpu(demand, n_slots, available, devices.len());
    }
    settings.check_trained_context(dims.n_ctx_train)?;
    let largest_ctx = settings.n_ctx.unwrap_or(dims.n_ctx_train);
    let smallest_ctx = settings.n_ctx.unwrap_or(dims.n_ctx_train.min(N_CTX_KEPT));
    let cells = |n_ctx: u32| settings.n_cells.unwrap_or(n_ctx).max(n_ctx);
    let contexts = (0..=(largest_ctx - smallest_ctx) / N_CTX_MIN).map(|step| largest_ctx - step * N_CTX_MIN);
    let whole = contexts.clone().find_map(|n_ctx| Some((n_ctx, demand.place(cells(n_ctx), wanted, &rooms)?)));
    let (n_ctx, placement) = match whole {
        Some(found) => found,
        None if by_user => return Err(too_many_layers(demand, cells(smallest_ctx), wanted, &rooms)),
        None => match demand.largest(cells(smallest_ctx), wanted, &rooms) {
            Some(placement) => (smallest_ctx, placement),
            None => return on_cpu(demand, n_slots, available, devices.len()),
        },
    };
    let kv = KvPlan::pool(settings, n_ctx, n_slots, demand.spare_cells(cells(n_ctx), &placement, &rooms))?;
    let placement = demand.placement(kv.n_cells, placement.layers);
    Ok((kv, placement))
}

/// Plans a run without layers on devices.
fn on_cpu(
    demand: &Demand<'_>,
    n_slots: Option<u32>,
    available: &Available,
    n_devices: usize,
) -> Result<(KvPlan, Placement), Failure> {
    let Demand { dims, settings, .. } = *demand;
    let kv = KvPlan::on_cpu(dims, settings, n_slots, available)?;
    let main_bytes = dims.memory_needed(settings, kv.n_cells);
    Ok((kv, Placement { layers: vec![0; n_devices], device_bytes: vec![0; n_devices], main_bytes }))
}

impl Demand<'_> {
    /// Returns the cells that half of the free memory holds beside a placement with `n_cells`.
    fn spare_cells(&self, n_cells: u32, placement: &Placement, rooms: &Rooms<'_>) -> u64 {
        let one_more = self.placement(n_cells.saturating_add(N_CTX_MIN), placement.layers.clone());
        let cells = |budget: u64, used: u64, more: u64| {
            let per_step = more.saturating_sub(used);
            let steps = (budget.saturating_sub(used) / 2).checked_div(per_step).unwrap_or(u64::MAX);
            steps.saturating_mul(u64::from(N_CTX_MIN))
        };
        let now = self.placement(n_cells, placement.layers.clone());
        let uses = now.device_bytes.iter().zip(&one_more.device_bytes);
        let on_devices = rooms.devices.iter().zip(uses).map(|(one, (used, more))| {
            let room = if one.shares_main_memory() { one.budget.min(rooms.main) } else { one.budget };
            cells(room, *used, *more)
        });
        on_devices.chain([cells(rooms.main, now.main_bytes, one_more.main_bytes)]).min().unwrap_or(0)
    }
}

/// Returns the error for a number of layers that does not fit, with the number that does.
fn too_many_layers(demand: &Demand<'_>, n_cells: u32, n_layers: u32, rooms: &Rooms<'_>) -> Failure {
    let needed = demand.device_bytes(n_cells, demand.n_layers() - n_layers, demand.n_layers(), n_layers);
    let budgets: Vec<String> =
        rooms.devices.iter().map(|one| format!("{} on {}", bytes(one.budget), shown(&one.device))).collect();
    let all = if n_layers == demand.n_layers() { "all " } else { "" };
    let main = demand.main_bytes(n_cells, demand.n_layers() - n_layers);
    let what = if main > rooms.main {
        format!(
            "with {n_layers} layers on the GPU, the rest needs {} of main memory, and {} is free",
            bytes(main),
            bytes(rooms.main)
        )
    } else {
        format!(
            "{all}{n_layers} layers with {n_cells} tokens of context need {} of device memory; the limit is {}",
            bytes(needed),
            budgets.join(", ")
        )
    };
    let fix = match demand.largest(n_cells, n_layers.saturating_sub(1), rooms) {
        Some(placement) => format!("give -ngl {} or leave it out, or a smaller -c", placement.n_layers()),
        None => "leave -ngl out, or give a smaller -c".to_owned(),
    };
    Failure::machine(Code::Memory, what, fix)
}

#[cfg(test)]
mod tests;

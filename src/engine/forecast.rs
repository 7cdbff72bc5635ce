//! Forecasts the memory of a run, for main memory and each device apart, without loading the model.

use super::devices::{Usable, usable};
use super::model_dims::ModelDims;
use super::offload_plan::{Demand, plan};
use super::settings::EngineSettings;
use super::tensor_sizes::TensorSizes;
use crate::error::Failure;
use crate::platform::Available;

/// The memory of a run.
#[derive(Clone, Debug)]
pub(crate) struct Forecast {
    /// Context size of one sequence, in tokens.
    pub(crate) n_ctx: u32,
    /// Tokens in the KV cache.
    pub(crate) n_cells: u32,
    /// Layers of the model; the output layer counts as one.
    pub(crate) n_layers: u32,
    /// Bytes of main memory.
    pub(crate) main_bytes: u64,
    /// The devices: layers there, and their bytes.
    pub(crate) devices: Vec<(Usable, u32, u64)>,
}

impl Forecast {
    /// Forecasts a run with `n_slots` sequences that each have a whole context. Main memory is taken as large enough; layers
    /// are on devices as far as their memory allows.
    ///
    /// # Errors
    /// `GPU`: the settings name a device that does not exist. `MEMORY`: the settings have a number of layers that does not
    /// fit. `CTX_SIZE`: the context is larger than the training context.
    pub(crate) fn new(
        dims: &ModelDims,
        sizes: &TensorSizes,
        settings: &EngineSettings,
        n_slots: u32,
    ) -> Result<Self, Failure> {
        let devices = usable(&settings.gpu)?;
        let n_cells = settings.n_ctx.map(|n_ctx| n_ctx.saturating_mul(n_slots));
        let settings = EngineSettings { n_cells: settings.n_cells.or(n_cells), ..settings.clone() };
        let demand = Demand { dims, sizes, settings: &settings };
        let endless = Available::of_machine(u64::MAX);
        let (kv, placement) = plan(&demand, Some(n_slots), &endless, &devices, u32::MAX)?;
        let parts = devices.into_iter().zip(placement.layers.into_iter().zip(placement.device_bytes));
        Ok(Self {
            n_ctx: kv.n_ctx,
            n_cells: kv.n_cells,
            n_layers: demand.n_layers(),
            main_bytes: placement.main_bytes,
            devices: parts.map(|(one, (layers, bytes))| (one, layers, bytes)).collect(),
        })
    }

    /// Returns one line for each device.
    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = crate::table::bytes;
        let line = |(one, layers, needed): &(Usable, u32, u64)| {
            let all = self.n_layers;
            let device = super::devices::shown(&one.device);
            format!(
                "{layers} of {all} layers on {device}: {} of {} that may be used",
                bytes(*needed),
                bytes(one.budget)
            )
        };
        self.devices.iter().map(line).collect()
    }
}

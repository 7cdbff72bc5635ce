//! What the user asks of GPUs: how many layers, on which devices, and how they are split. `devices.rs` finds the devices,
//! `offload_plan.rs` chooses the layers.

use std::str::FromStr;

/// The settings of `-ngl`, `-dev`, `-sm`, `-ts`, `-mg`, `-nkvo` and `--device-memory`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GpuSettings {
    /// Layers on GPUs.
    pub(crate) layers: GpuLayers,
    /// Names of the devices to use; `None`: as llama.cpp chooses. An empty list: none.
    pub(crate) devices: Option<Vec<String>>,
    /// How the model is split over several devices.
    pub(crate) split: SplitMode,
    /// Shares of the devices; empty: by their free memory.
    pub(crate) shares: Vec<f32>,
    /// Position of the device for `--split-mode none`, and for intermediate results with `row`.
    pub(crate) main: usize,
    /// Whether the KV cache of a layer is where the layer is. Otherwise it is in main memory.
    pub(crate) kv_offload: bool,
    /// Limits of the memory used of each device, in bytes; the last one holds for all further devices.
    pub(crate) memory: Vec<u64>,
    /// Bytes of device memory that are kept free for a second model.
    pub(crate) reserved: u64,
    /// Bytes that another model of this process will need, by the number of the device.
    pub(crate) taken: Vec<(usize, u64)>,
}

impl Default for GpuSettings {
    /// The settings without any flag.
    fn default() -> Self {
        Self {
            layers: GpuLayers::Auto,
            devices: None,
            split: SplitMode::Layer,
            shares: Vec::new(),
            main: 0,
            kv_offload: true,
            memory: Vec::new(),
            reserved: 0,
            taken: Vec::new(),
        }
    }
}

/// Layers on GPUs; the output layer counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum GpuLayers {
    /// As many as fit; none without a GPU.
    #[default]
    Auto,
    /// All.
    All,
    /// The last ones of the model.
    Count(u32),
}

impl GpuLayers {
    /// Its text on the command line.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::All => "all".to_owned(),
            Self::Count(n) => n.to_string(),
        }
    }
}

impl FromStr for GpuLayers {
    type Err = &'static str;

    /// Parses `auto`, `all`, a number, or the negative numbers that llama.cpp has for the two words.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" | "-1" => Ok(Self::Auto),
            "all" | "-2" => Ok(Self::All),
            number => number.parse().map(Self::Count).map_err(|_| "give a number of layers, auto or all"),
        }
    }
}

/// How the model is split over several devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SplitMode {
    /// Use one device only (-mg).
    None,
    /// Put some layers, with their KV cache, on each device.
    #[default]
    Layer,
    /// Split every matrix by rows; only some backends can.
    Row,
}

/// Parses a size in bytes: a number with K, M, G or T for the binary units, such as `1536M` or `6G`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "give a number of bytes with K, M, G or T, such as 6G";
    let text = text.trim();
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let text = text.strip_suffix('i').unwrap_or(text);
    let (number, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        Some((at, 'T' | 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: f64 = number.trim().parse().map_err(|_| WRONG)?;
    let bytes = number * f64::from(1_u32 << 10).powi(shift / 10);
    if bytes.is_finite() && (0.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use super::{GpuLayers, parse_bytes};

    #[test]
    fn layers_have_llama_cpps_spellings() {
        for (text, layers) in [
            ("auto", GpuLayers::Auto),
            ("-1", GpuLayers::Auto),
            ("all", GpuLayers::All),
            ("-2", GpuLayers::All),
            ("0", GpuLayers::Count(0)),
            (" 99 ", GpuLayers::Count(99)),
        ] {
            assert_eq!(text.parse(), Ok(layers), "{text}");
        }
        for text in ["", "-3", "1.5", "half", "4294967296"] {
            assert!(text.parse::<GpuLayers>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("2k", 2048), ("1.5G", 3 << 29), ("512M", 512 << 20), ("6GiB", 6 << 30)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "many", "1e30", "NaN", "5X"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}

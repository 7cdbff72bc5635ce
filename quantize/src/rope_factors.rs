//! Computes `rope_freqs.weight`: the factors by which llama.cpp divides the rotary frequencies of a Llama 3.1 model. A
//! checkpoint does not have this tensor; config.json has the numbers.
//!
//! Formula: `_compute_llama3_parameters` of Transformers, in single precision in the order of `generate_extra_tensors`
//! of llama.cpp's converter, whose bits are the same.

use crate::checkpoint::config::{Config, RopeScaling};

/// Returns one factor for each pair of dimensions of a head; `None` when the model has no such scaling.
#[must_use]
pub(crate) fn factors(config: &Config) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } = config.rope_scaling
    else {
        return None;
    };
    #[allow(clippy::cast_precision_loss, reason = "the converter computes in f32")]
    let original = original_context as f32;
    let dim = f64::from(config.head_dim);
    let pairs = 0..config.head_dim / 2;
    let scaled = |pair: u32| {
        #[allow(clippy::cast_possible_truncation, reason = "the exponent and the power are rounded to f32")]
        let power = f64::from(config.rope_theta).powf(f64::from((f64::from(2 * pair) / dim) as f32)) as f32;
        let frequency = 1.0 / power;
        let wavelength = (1.0 / frequency) * (2.0 * std::f32::consts::PI);
        if wavelength < original / high_freq_factor {
            1.0
        } else if wavelength > original / low_freq_factor {
            factor
        } else {
            let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some(pairs.map(scaled).collect())
}

//! Formats results like llama-bench: its table and its JSON fields, followed by our own fields (sequences, and the
//! fractions of the memory bandwidth and of the CPU's arithmetic that were used).

use super::measure::{Measured, mean_and_deviation};
use llama_ext::peak::Peak;
use serde_json::{Value, json};

/// The model and the machine of a benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Path of the model file.
    pub(crate) filename: String,
    /// Such as `llama 13B Q4_K_M`.
    pub(crate) model_type: String,
    /// Bytes of all tensors.
    pub(crate) size: u64,
    /// Parameters.
    pub(crate) n_params: u64,
    /// Such as `CPU`.
    pub(crate) backends: String,
    /// Maximum tokens of a batch.
    pub(crate) n_batch: u32,
    /// Maximum tokens of a micro-batch.
    pub(crate) n_ubatch: u32,
    /// Threads.
    pub(crate) n_threads: u32,
    /// Type of the keys in the KV cache.
    pub(crate) type_k: &'static str,
    /// Type of the values in the KV cache.
    pub(crate) type_v: &'static str,
    /// Layers on the GPU.
    pub(crate) n_gpu_layers: u32,
    /// The parts of the model on devices, for JSON.
    pub(crate) devices: Vec<Value>,
    /// `on`, `off` or `auto`.
    pub(crate) flash_attn: &'static str,
    /// Bytes of weights that are read to generate one token.
    pub(crate) bytes_per_token: u64,
    /// Memory bandwidth in bytes per second; `None` if it was not measured.
    pub(crate) bandwidth: Option<f64>,
    /// Multiply-adds of a token with the weights of the layers.
    pub(crate) products_of_layers: u64,
    /// Multiply-adds of a token with the output matrix: for generated tokens only.
    pub(crate) products_of_output: u64,
    /// The most multiply-adds per second of the CPU; `None` if unknown, or if a GPU computes.
    pub(crate) peak: Option<Peak>,
}

/// Minimum bytes of weights for the fraction of bandwidth: smaller weights may stay in the CPU's caches (the largest
/// servers have about 1 GiB, most machines far less).
const FRACTION_MIN: u64 = 256 << 20;

impl Subject {
    /// Returns the fraction of memory bandwidth that generation used; `None` for prefill, which is limited by
    /// arithmetic, and for small weights.
    fn bandwidth_fraction(&self, measured: &Measured) -> Option<f64> {
        let (speed, _) = mean_and_deviation(&measured.speeds());
        let read = self.bytes_per_token as f64 * speed / f64::from(measured.test.n_parallel);
        let reads_memory = measured.test.n_gen > 0 && self.bytes_per_token >= FRACTION_MIN;
        self.bandwidth.filter(|_| reads_memory).map(|bandwidth| read / bandwidth)
    }

    /// Returns the fraction of the CPU's multiply-adds that the products of weights used. Attention is not counted.
    fn peak_fraction(&self, measured: &Measured) -> Option<f64> {
        let (speed, _) = mean_and_deviation(&measured.speeds());
        let output = if measured.test.n_gen > 0 { self.products_of_output } else { 0 };
        self.peak.map(|peak| (self.products_of_layers + output) as f64 * speed / peak.per_second)
    }
}

/// The first two lines of the table.
pub(crate) fn table_head() -> String {
    let mut head =
        row(["model", "size", "params", "backend", "threads", "test", "t/s", "memory", "compute"].map(str::to_owned));
    let rule = WIDTHS.map(|width| {
        let dashes = "-".repeat(width.unsigned_abs() - 1);
        if width < 0 { format!("{dashes}-") } else { format!("{dashes}:") }
    });
    head.push_str(&row(rule));
    head
}

/// One line of the table.
pub(crate) fn table_row(subject: &Subject, measured: &Measured) -> String {
    let (mean, deviation) = mean_and_deviation(&measured.speeds());
    let (gib, mib) = (f64::from(1 << 30), f64::from(1 << 20));
    let size = subject.size as f64;
    row([
        subject.model_type.clone(),
        if size < gib { format!("{:.2} MiB", size / mib) } else { format!("{:.2} GiB", size / gib) },
        if subject.n_params < 1_000_000_000 {
            format!("{:.2} M", subject.n_params as f64 / 1e6)
        } else {
            format!("{:.2} B", subject.n_params as f64 / 1e9)
        },
        subject.backends.clone(),
        subject.n_threads.to_string(),
        name(measured),
        format!("{mean:.2} ± {deviation:.2}"),
        match (subject.bandwidth_fraction(measured), subject.bandwidth) {
            // An answer has passes of different sizes.
            _ if measured.answer.is_some() => answer_text(measured),
            (Some(fraction), Some(bandwidth)) => format!("{:.0} % of {:.1} GB/s", fraction * 100.0, bandwidth / 1e9),
            (None, Some(_)) if measured.test.n_gen > 0 => "-".to_owned(),
            _ => String::new(),
        },
        match (subject.peak_fraction(measured), subject.peak) {
            (Some(fraction), Some(peak)) => format!("{:.1} % of {:.2} T/s", fraction * 100.0, peak.per_second / 1e12),
            _ => String::new(),
        },
    ])
}

/// The array that `--json` prints.
pub(crate) fn json(subject: &Subject, all: &[Measured]) -> Value {
    Value::Array(all.iter().map(|measured| object(subject, measured)).collect())
}

fn object(subject: &Subject, measured: &Measured) -> Value {
    let nanoseconds: Vec<u64> =
        measured.samples.iter().map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).collect();
    let (avg_ns, stddev_ns) = mean_and_deviation(&nanoseconds.iter().map(|ns| *ns as f64).collect::<Vec<_>>());
    let (avg_ts, stddev_ts) = mean_and_deviation(&measured.speeds());
    json!({
        "backends": subject.backends,
        "model_filename": subject.filename,
        "model_type": subject.model_type,
        "model_size": subject.size,
        "model_n_params": subject.n_params,
        "n_batch": subject.n_batch,
        "n_ubatch": subject.n_ubatch,
        "n_threads": subject.n_threads,
        "type_k": subject.type_k,
        "type_v": subject.type_v,
        "n_gpu_layers": subject.n_gpu_layers,
        "devices": subject.devices,
        "flash_attn": subject.flash_attn,
        "n_prompt": measured.test.n_prompt,
        "n_gen": measured.test.n_gen,
        "n_parallel": measured.test.n_parallel,
        "n_depth": 0,
        "test_time": crate::clock::utc(measured.began),
        "avg_ns": avg_ns as u64,
        "stddev_ns": stddev_ns as u64,
        "avg_ts": avg_ts,
        "stddev_ts": stddev_ts,
        "samples_ns": nanoseconds,
        "samples_ts": measured.speeds(),
        "bytes_per_token": subject.bytes_per_token,
        "memory_bandwidth": subject.bandwidth,
        "memory_bandwidth_share": subject.bandwidth_fraction(measured).filter(|_| measured.answer.is_none()),
        "peak_multiply_adds": subject.peak.map(|peak| peak.per_second),
        "peak_instructions": subject.peak.map(|peak| peak.instructions),
        "peak_share": subject.peak_fraction(measured),
        "answer": measured.answer.as_ref().map(|answer| answer.label.as_str()),
        "drafts": measured.answer.as_ref().map(|answer| answer.drafts.json()),
    })
}

/// Tokens a pass and acceptance, short enough for the last column.
fn answer_text(measured: &Measured) -> String {
    let Some(answer) = &measured.answer else { return String::new() };
    let rate = answer.drafts.acceptance().map(|rate| format!(", {:.0} % right", rate * 100.0)).unwrap_or_default();
    format!("{:.2} a pass{rate}", answer.drafts.tokens_per_pass())
}

fn name(measured: &Measured) -> String {
    match (measured.test.n_gen, measured.test.n_parallel, &measured.answer) {
        (0, ..) => format!("pp{}", measured.test.n_prompt),
        (n, _, Some(answer)) => format!("tg{n} {}", answer.label),
        (n, 1, None) => format!("tg{n}"),
        (n, n_parallel, None) => format!("tg{n} x {n_parallel}"),
    }
}

/// llama-bench's column widths; negative: left-aligned.
const WIDTHS: [isize; 9] = [-30, 10, 10, -10, 7, 15, 20, 20, 20];

fn row(cells: [String; 9]) -> String {
    let cells = cells.iter().zip(WIDTHS).map(|(cell, width)| {
        let size = width.unsigned_abs();
        if width < 0 { format!(" {cell:<size$} |") } else { format!(" {cell:>size$} |") }
    });
    format!("|{}\n", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{FRACTION_MIN, Measured, Peak, Subject, table_head, table_row};
    use crate::bench::Test;
    use std::time::Duration;

    #[test]
    fn the_fraction_of_bandwidth_is_shown_for_large_weights_only() {
        let memory = |bytes, n_gen, n_parallel| cells(bytes, n_gen, n_parallel)[7].clone();
        assert_eq!(memory(FRACTION_MIN, 1, 1), "27 % of 1.0 GB/s");
        assert_eq!(memory(FRACTION_MIN - 1, 1, 1), "-");
        assert_eq!(memory(FRACTION_MIN, 0, 1), "");
        // Two sequences read the weights once.
        assert_eq!(memory(FRACTION_MIN, 2, 2), "54 % of 1.0 GB/s");
    }

    #[test]
    fn the_fraction_of_the_peak_counts_the_output_of_generated_tokens_only() {
        let compute = |n_gen, n_parallel| cells(1, n_gen, n_parallel)[8].clone();
        assert_eq!(compute(0, 1), "3.0 % of 1.00 T/s");
        assert_eq!(compute(1, 1), "4.0 % of 1.00 T/s");
        assert_eq!(compute(2, 8), "64.0 % of 1.00 T/s");
    }

    /// The cells of a line, for runs of one second.
    fn cells(bytes_per_token: u64, n_gen: u32, n_parallel: u32) -> Vec<String> {
        let subject = Subject {
            filename: String::new(),
            model_type: String::new(),
            size: bytes_per_token,
            n_params: 1,
            backends: "CPU".to_owned(),
            n_batch: 1,
            n_ubatch: 1,
            n_threads: 1,
            type_k: "f16",
            type_v: "f16",
            n_gpu_layers: 0,
            devices: Vec::new(),
            flash_attn: "auto",
            bytes_per_token,
            bandwidth: Some(1e9),
            products_of_layers: 30_000_000_000,
            products_of_output: 10_000_000_000,
            peak: Some(Peak { instructions: "avx2", per_second: 1e12 }),
        };
        let test = Test { n_prompt: 1 - n_gen.min(1), n_gen, n_parallel };
        let row =
            table_row(&subject, &Measured { test, answer: None, began: 0, samples: vec![Duration::from_secs(1)] });
        row.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    }

    #[test]
    fn the_table_is_markdown() {
        let head = table_head();
        let lines: Vec<&str> = head.lines().collect();
        assert!(lines.iter().all(|line| line.matches('|').count() == 10), "{head}");
        assert!(lines[1].starts_with("| ------------------------------ | ---------: |"), "{head}");
    }
}

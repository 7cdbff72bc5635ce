//! Formats results like llama-bench: its table and its JSON fields, followed by our own field (the fraction of memory
//! bandwidth).

use super::measure::{Measured, mean_and_deviation};
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
    /// `on`, `off` or `auto`.
    pub(crate) flash_attn: &'static str,
    /// Bytes of weights that are read to generate one token.
    pub(crate) bytes_per_token: u64,
    /// Memory bandwidth in bytes per second; `None` if it was not measured.
    pub(crate) bandwidth: Option<f64>,
}

/// Minimum bytes of weights for the fraction of bandwidth: smaller weights may stay in the CPU's caches (the largest
/// servers have about 1 GiB, most machines far less).
const FRACTION_MIN: u64 = 256 << 20;

impl Subject {
    /// Returns the fraction of memory bandwidth that generation used; `None` for prefill, which is limited by
    /// arithmetic, and for small weights.
    fn bandwidth_fraction(&self, measured: &Measured) -> Option<f64> {
        let (speed, _) = mean_and_deviation(&measured.speeds());
        let read = self.bytes_per_token as f64 * speed;
        let reads_memory = measured.test.n_gen > 0 && self.bytes_per_token >= FRACTION_MIN;
        self.bandwidth.filter(|_| reads_memory).map(|bandwidth| read / bandwidth)
    }
}

/// The first two lines of the table.
pub(crate) fn table_head() -> String {
    let mut head = row(["model", "size", "params", "backend", "threads", "test", "t/s", "memory"].map(str::to_owned));
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
        "flash_attn": subject.flash_attn,
        "n_prompt": measured.test.n_prompt,
        "n_gen": measured.test.n_gen,
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
    match (measured.test.n_gen, &measured.answer) {
        (0, _) => format!("pp{}", measured.test.n_prompt),
        (n, None) => format!("tg{n}"),
        (n, Some(answer)) => format!("tg{n} {}", answer.label),
    }
}

/// llama-bench's column widths; negative: left-aligned.
const WIDTHS: [isize; 8] = [-30, 10, 10, -10, 7, 15, 20, 20];

fn row(cells: [String; 8]) -> String {
    let cells = cells.iter().zip(WIDTHS).map(|(cell, width)| {
        let size = width.unsigned_abs();
        if width < 0 { format!(" {cell:<size$} |") } else { format!(" {cell:>size$} |") }
    });
    format!("|{}\n", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{FRACTION_MIN, Measured, Subject, table_head, table_row};
    use crate::bench::Test;
    use std::time::Duration;

    #[test]
    fn the_fraction_of_bandwidth_is_shown_for_large_weights_only() {
        let row = |bytes_per_token: u64, n_gen: u32| {
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
                flash_attn: "auto",
                bytes_per_token,
                bandwidth: Some(1e9),
            };
            let test = Test { n_prompt: 1 - n_gen.min(1), n_gen };
            let samples = vec![Duration::from_secs(1)];
            let row = table_row(&subject, &Measured { test, answer: None, began: 0, samples });
            row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim().to_owned()
        };
        assert_eq!(row(FRACTION_MIN, 1), "27 % of 1.0 GB/s");
        assert_eq!(row(FRACTION_MIN - 1, 1), "-");
        assert_eq!(row(FRACTION_MIN, 0), "");
    }

    #[test]
    fn the_table_is_markdown() {
        let head = table_head();
        let lines: Vec<&str> = head.lines().collect();
        assert!(lines.iter().all(|line| line.matches('|').count() == 9), "{head}");
        assert!(lines[1].starts_with("| ------------------------------ | ---------: |"), "{head}");
    }
}

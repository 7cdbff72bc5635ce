//! Describes an importance matrix, with the statistics of llama-imatrix's `--show-statistics`.

use crate::sanitize::one_line;
use crate::table::{self, Align};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tulu_quantize::{ImatrixSums, Sums};

/// A mean square up to this counts as inactive.
const INACTIVE: f32 = 1e-5;

/// The statistics of one tensor. The values are the mean squares of the activations of its columns.
#[derive(Clone, Debug, PartialEq)]
struct TensorStatistics {
    name: String,
    /// Block of the model; `None` for the output matrix.
    block: Option<u32>,
    columns: usize,
    sum: f32,
    min: f32,
    max: f32,
    mean: f32,
    deviation: f32,
    /// Share of active columns.
    active: f32,
    /// Entropy of the values as a distribution, in bits.
    entropy: f32,
    /// Share of columns more than one standard deviation above the mean.
    above: f32,
    /// Cosine of the angle to the same tensor of the block before; 0 for the first.
    cosine: f32,
}

/// Returns the table for a terminal: a row for each tensor, then a row for each block.
pub(crate) fn table(sums: &ImatrixSums) -> String {
    let all = statistics(sums);
    let mut rows = vec![
        [
            "block",
            "tensor",
            "Σ(act²)",
            "min",
            "max",
            "mean",
            "σ",
            "active",
            "columns",
            "entropy",
            "E (norm)",
            "ZD",
            "cos sim",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for t in &all {
        rows.push(vec![
            t.block.map_or_else(|| "-".to_owned(), |block| block.to_string()),
            one_line(kind(&t.name)),
            format!("{:.2}", t.sum),
            format!("{:.4}", t.min),
            format!("{:.4}", t.max),
            format!("{:.2}", t.mean),
            format!("{:.2}", t.deviation),
            format!("{:.2} %", 100.0 * t.active),
            t.columns.to_string(),
            format!("{:.4}", t.entropy),
            format!("{:.2} %", 100.0 * normalised(t)),
            format!("{:.2} %", 100.0 * t.above),
            format!("{:.4}", t.cosine),
        ]);
    }
    let mut align = vec![Align::Right; 13];
    align[1] = Align::Left;
    let mut out = table::render(&align, &rows);
    let heading = ["block", "Σ(act²)", "ZD", "cos sim"].map(str::to_owned).to_vec();
    let blocks = blocks(&all).into_iter().map(|(block, [sum, above, cosine])| {
        vec![block.to_string(), format!("{sum:.2}"), format!("{:.4} %", 100.0 * above), format!("{cosine:.4}")]
    });
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(blocks).collect();
    out += &format!("\nmean of each block, weighted by columns\n{}", table::render(&[Align::Right; 4], &rows));
    out
}

/// Returns everything as JSON.
pub(crate) fn json(sums: &ImatrixSums) -> Value {
    let tensor = |t: &TensorStatistics| {
        json!({"name": t.name, "block": t.block, "columns": t.columns, "sum": t.sum, "min": t.min, "max": t.max,
               "mean": t.mean, "deviation": t.deviation, "active": t.active, "entropy": t.entropy,
               "entropy_normalised": normalised(t), "above_one_deviation": t.above, "cosine": t.cosine})
    };
    json!({"datasets": sums.datasets, "chunk_count": sums.chunk_count(), "chunk_size": sums.chunk_size,
           "tensors": statistics(sums).iter().map(tensor).collect::<Vec<_>>()})
}

/// Entropy as a part of the largest possible.
fn normalised(t: &TensorStatistics) -> f32 {
    if t.columns > 1 { t.entropy / (t.columns as f32).log2() } else { 0.0 }
}

/// Returns the kind of tensor: `attn_q` for `blk.0.attn_q.weight`.
fn kind(name: &str) -> &str {
    let without = name.strip_suffix(".weight").unwrap_or(name);
    without.rsplit_once('.').map_or(without, |(_, kind)| kind)
}

fn block(name: &str) -> Option<u32> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// Returns the statistics, by kind of tensor and then by falling sum.
fn statistics(sums: &ImatrixSums) -> Vec<TensorStatistics> {
    let of = |(name, entry): (&String, &Sums)| {
        let values = means(entry);
        (!values.is_empty()).then(|| describe(name, &values, cosine(sums, name, entry)))
    };
    let mut all: Vec<TensorStatistics> = sums.entries.iter().filter_map(of).collect();
    all.sort_by(|a, b| kind(&a.name).cmp(kind(&b.name)).then(b.sum.total_cmp(&a.sum)));
    all
}

/// Returns the mean squares of all columns; those of matrices without rows are left out.
fn means(sums: &Sums) -> Vec<f32> {
    let columns = sums.values.len() / sums.counts.len().max(1);
    let matrices = sums.values.chunks(columns.max(1)).zip(&sums.counts).filter(|(_, count)| **count > 0);
    matrices.flat_map(|(values, count)| values.iter().map(|value| value / *count as f32)).collect()
}

fn describe(name: &str, values: &[f32], cosine: f32) -> TensorStatistics {
    let n = values.len() as f32;
    let sum: f32 = values.iter().sum();
    let mean = sum / n;
    let squares: f32 = values.iter().map(|x| x * x).sum();
    let deviation = (squares / n - mean * mean).max(0.0).sqrt();
    let part = |of: usize| of as f32 / n;
    let bits = |x: &f32| {
        let p = x / sum;
        if p > 0.0 { -p * p.log2() } else { 0.0 }
    };
    let above = |x: &&f32| deviation > 0.0 && (**x - mean) / deviation > 1.0;
    TensorStatistics {
        name: name.to_owned(),
        block: block(name),
        columns: values.len(),
        sum,
        min: values.iter().copied().fold(f32::INFINITY, f32::min),
        max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        mean,
        deviation,
        active: part(values.iter().filter(|x| x.abs() > INACTIVE).count()),
        entropy: if sum > 0.0 { values.iter().map(bits).sum() } else { 0.0 },
        above: part(values.iter().filter(above).count()),
        cosine,
    }
}

/// Returns the cosine of the angle between the sums of a tensor and those of the same tensor in the block before.
fn cosine(sums: &ImatrixSums, name: &str, entry: &Sums) -> f32 {
    let before = block(name).and_then(|block| block.checked_sub(1)).and_then(|before| {
        let rest = name.strip_prefix("blk.")?.split_once('.')?.1;
        sums.entries.get(&format!("blk.{before}.{rest}"))
    });
    let Some(before) = before.filter(|before| before.values.len() == entry.values.len()) else { return 0.0 };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = dot(&entry.values, &entry.values).sqrt() * dot(&before.values, &before.values).sqrt();
    if lengths > 0.0 { (dot(&entry.values, &before.values) / lengths) as f32 } else { 0.0 }
}

/// Returns for each block the means of sum, share above one deviation and cosine, weighted by columns.
fn blocks(all: &[TensorStatistics]) -> BTreeMap<u32, [f32; 3]> {
    let mut totals: BTreeMap<u32, ([f32; 3], f32)> = BTreeMap::new();
    for t in all {
        let Some(block) = t.block else { continue };
        let (sums, columns) = totals.entry(block).or_default();
        let n = t.columns as f32;
        for (sum, value) in sums.iter_mut().zip([t.sum, t.above, t.cosine]) {
            *sum += n * value;
        }
        *columns += n;
    }
    totals.into_iter().map(|(block, (sums, columns))| (block, sums.map(|sum| sum / columns))).collect()
}

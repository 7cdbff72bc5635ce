//! The results as a table for a terminal, as Markdown and as JSON.

use super::statistics::{Divergence, Estimate, PERCENTILES, Perplexity};
use super::tensor_group::TensorGroup;
use crate::corpus::{Chunk, Corpus};
use crate::sanitize::one_line;
use crate::table::{self, Align};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tulu_quantize::Ftype;

/// Speed in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// Prompt processing.
    pub(crate) prompt: f64,
    /// Generation.
    pub(crate) generation: f64,
}

/// The results of one model.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its file.
    pub(crate) path: PathBuf,
    /// Whether the file is deleted at the end.
    pub(crate) is_temporary: bool,
    /// The type in its metadata.
    pub(crate) ftype: Option<Ftype>,
    /// Difference to other entries of the same file, such as the type of the KV cache.
    pub(crate) variant: Option<String>,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Bits of storage for each weight.
    pub(crate) bits_per_weight: f64,
    /// Bytes of memory that it needs to run with its whole training context.
    pub(crate) memory: u64,
    /// Perplexity.
    pub(crate) perplexity: Perplexity,
    /// Difference to the base; `None` without a base, and for the base itself.
    pub(crate) divergence: Option<Divergence>,
    /// Measured speed.
    pub(crate) speed: Option<Speed>,
    /// Whether it is the base.
    pub(crate) is_base: bool,
}

/// The results of the base with one group of tensors of a file.
#[derive(Clone, Debug)]
pub(crate) struct GroupEntry {
    /// Index of the file among the entries; `None` for a file that is not among them.
    pub(crate) file: Option<usize>,
    /// The group.
    pub(crate) group: TensorGroup,
    /// Difference to the base.
    pub(crate) divergence: Divergence,
}

/// The results of a run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Name of the text.
    pub(crate) text: String,
    /// SHA-256 of the text.
    pub(crate) text_sha256: String,
    /// Tokens of a chunk.
    pub(crate) n_ctx: usize,
    /// Number of chunks.
    pub(crate) n_chunks: usize,
    /// Number of scored tokens.
    pub(crate) n_scored: usize,
    /// The models, the base first.
    pub(crate) entries: Vec<Entry>,
    /// Groups of tensors that were swapped alone.
    pub(crate) groups: Vec<GroupEntry>,
}

impl Entry {
    /// Returns the file name without the extension.
    fn file_name(&self) -> String {
        let file = self.path.file_name().map_or_else(|| self.path.to_string_lossy(), |name| name.to_string_lossy());
        one_line(&file).trim_end_matches(".gguf").to_owned()
    }

    /// Returns the name for people: the file name and the variant.
    pub(crate) fn name(&self) -> String {
        let mut name = self.file_name();
        if let Some(variant) = &self.variant {
            name += &format!(" {variant}");
        }
        if self.is_base {
            name += " (base)";
        }
        name
    }
}

impl Report {
    /// Makes the report of `entries` on the chunks of a text.
    pub(crate) fn new(corpus: &Corpus, n_ctx: usize, chunks: &[Chunk], entries: Vec<Entry>) -> Self {
        Self {
            text: corpus.name.clone(),
            text_sha256: corpus.sha256(),
            n_ctx,
            n_chunks: chunks.len(),
            n_scored: chunks.iter().map(|chunk| chunk.scored.len()).sum(),
            entries,
            groups: Vec::new(),
        }
    }

    /// Returns the largest bound on the error of a mean divergence; `None` when all are exact.
    pub(crate) fn bound(&self) -> Option<f64> {
        let bounds = self.entries.iter().filter_map(|entry| entry.divergence.as_ref()).map(|d| d.kl_bound);
        bounds.max_by(f64::total_cmp).filter(|bound| *bound > 0.0)
    }

    /// Returns one line that says what was computed.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{}: {} of {} tokens, {} scored",
            one_line(&self.text),
            table::count(self.n_chunks, "chunk", "chunks"),
            self.n_ctx,
            self.n_scored
        )
    }

    /// Returns heading and rows of the table. Columns that no entry has are left out.
    pub(super) fn rows(&self) -> (Vec<Align>, Vec<Vec<String>>) {
        let compared = self.entries.iter().any(|entry| entry.divergence.is_some());
        let timed = self.entries.iter().any(|entry| entry.speed.is_some());
        let mut heading = vec!["file", "size", "bits/weight", "PPL"];
        if compared {
            heading.extend(["KL mean", "median", "90 %", "99 %", "max", "same top", "RMS Δp"]);
        }
        if timed {
            heading.extend(["pp t/s", "tg t/s"]);
        }
        heading.push("memory");
        let mut align = vec![Align::Right; heading.len()];
        align[0] = Align::Left;
        let mut rows = vec![heading.into_iter().map(str::to_owned).collect()];
        for entry in &self.entries {
            let mut row = vec![
                entry.name(),
                table::bytes(entry.bytes),
                format!("{:.2}", entry.bits_per_weight),
                estimate(entry.perplexity.ppl, 4),
            ];
            if compared {
                row.extend(entry.divergence.as_ref().map_or_else(|| vec![String::new(); 7], divergence_cells));
            }
            if timed {
                let speed =
                    |of: fn(&Speed) -> f64| entry.speed.as_ref().map_or_else(String::new, |s| format!("{:.1}", of(s)));
                row.extend([speed(|s| s.prompt), speed(|s| s.generation)]);
            }
            row.push(table::bytes(entry.memory));
            rows.push(row);
        }
        (align, rows)
    }

    /// Returns the table for a terminal.
    pub(crate) fn table(&self) -> String {
        let (align, rows) = self.rows();
        let mut out = table::render(&align, &rows);
        for (name, align, rows) in self.group_tables() {
            out += &format!("\n{name}: each group of tensors alone, all others from the base\n");
            out += &table::render(&align, &rows);
        }
        out
    }

    /// Returns name, heading and rows of the table of groups of each file.
    pub(super) fn group_tables(&self) -> Vec<(String, Vec<Align>, Vec<Vec<String>>)> {
        let files = self.entries.iter().enumerate();
        let table = |(index, entry): (usize, &Entry)| {
            let mut rows =
                vec![["tensors", "size", "in the base", "KL mean", "of the file's"].map(str::to_owned).to_vec()];
            let whole = entry.divergence.as_ref().map(|divergence| divergence.kl.value);
            for one in self.groups.iter().filter(|one| one.file == Some(index)) {
                let part = whole.filter(|whole| *whole > 0.0).map(|whole| 100.0 * one.divergence.kl.value / whole);
                rows.push(vec![
                    one.group.name.clone(),
                    table::bytes(one.group.bytes),
                    table::bytes(one.group.base_bytes),
                    estimate(one.divergence.kl, 5),
                    part.map_or_else(String::new, |part| format!("{part:.1} %")),
                ]);
            }
            let align = vec![Align::Left, Align::Right, Align::Right, Align::Right, Align::Right];
            (rows.len() > 1).then(|| (entry.name(), align, rows))
        };
        files.filter_map(table).collect()
    }

    /// Returns the table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let (align, rows) = self.rows();
        let mut out = markdown_table(&align, &rows) + &format!("\n{}\n", self.summary());
        for (name, align, rows) in self.group_tables() {
            let heading =
                format!("\n{}: each group of tensors alone, all others from the base\n\n", name.replace('|', "\\|"));
            out += &(heading + &markdown_table(&align, &rows));
        }
        out
    }

    /// Returns everything as JSON. Divergences are in nats, probabilities and shares between 0 and 1, speeds in tokens per
    /// second, sizes in bytes.
    pub(crate) fn json(&self) -> Value {
        json!({
            "text": {"name": self.text, "sha256": self.text_sha256},
            "n_ctx": self.n_ctx, "n_chunks": self.n_chunks, "n_scored": self.n_scored,
            "files": self.entries.iter().enumerate().map(|(index, entry)| self.entry_json(index, entry)).collect::<Vec<_>>(),
        })
    }

    fn entry_json(&self, index: usize, entry: &Entry) -> Value {
        let mut out = entry_json(entry);
        let groups: Vec<Value> = self.groups.iter().filter(|one| one.file == Some(index)).map(group_json).collect();
        if !groups.is_empty() {
            out["by_tensor"] = groups.into();
        }
        out
    }
}

/// The cells of the divergence, in the order of the heading.
fn divergence_cells(divergence: &Divergence) -> Vec<String> {
    let [p90, _, p99, _] = divergence.kl_percentiles;
    let percent = |of: Estimate| format!("{:.2} ± {:.2} %", 100.0 * of.value, 100.0 * of.error);
    vec![
        estimate(divergence.kl, 5),
        format!("{:.5}", divergence.kl_median),
        format!("{p90:.5}"),
        format!("{p99:.5}"),
        format!("{:.4}", divergence.kl_max),
        percent(divergence.same_top),
        percent(divergence.p_diff_rms),
    ]
}

/// Returns a table in Markdown. The first row is the heading.
fn markdown_table(align: &[Align], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<&str> = align.iter().map(|align| if *align == Align::Left { "---" } else { "--:" }).collect();
    let mut out = rows.first().map(|heading| line(heading)).unwrap_or_default();
    out += &format!("|{}|\n", rule.join("|"));
    rows.iter().skip(1).for_each(|row| out += &line(row));
    out
}

fn estimate(of: Estimate, digits: usize) -> String {
    format!("{:.digits$} ± {:.digits$}", of.value, of.error)
}

fn entry_json(entry: &Entry) -> Value {
    let pair = |of: Estimate| json!({"value": of.value, "error": of.error});
    let path = (!entry.is_temporary).then(|| path_text(&entry.path));
    let mut out = json!({
        "path": path, "name": entry.file_name(), "type": entry.ftype.map(Ftype::name), "variant": entry.variant, "base": entry.is_base, "bytes": entry.bytes,
        "bits_per_weight": entry.bits_per_weight, "memory_bytes": entry.memory, "ppl": pair(entry.perplexity.ppl),
        "nll": pair(entry.perplexity.nll),
    });
    if let Some(speed) = entry.speed {
        out["speed"] = json!({"prompt": speed.prompt, "generation": speed.generation});
    }
    if let Some(d) = &entry.divergence {
        out["kl"] = kl_json(d);
        out["ln_ppl_ratio"] = pair(d.log_ratio);
        out["same_top"] = pair(d.same_top);
        out["p_diff"] = pair(d.p_diff);
        out["p_diff_rms"] = pair(d.p_diff_rms);
    }
    out
}

fn kl_json(d: &Divergence) -> Value {
    let mut kl = json!({"mean": d.kl.value, "error": d.kl.error, "median": d.kl_median, "max": d.kl_max,
                        "bound": d.kl_bound});
    for (fraction, value) in PERCENTILES.iter().zip(d.kl_percentiles) {
        kl[format!("p{}", 100.0 * fraction)] = json!(value);
    }
    kl
}

fn group_json(one: &GroupEntry) -> Value {
    let TensorGroup { name, layer, tensors, base_bytes, bytes } = &one.group;
    json!({"group": name, "layer": layer, "tensors": tensors, "base_bytes": base_bytes, "bytes": bytes,
           "kl": kl_json(&one.divergence), "same_top": one.divergence.same_top.value})
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

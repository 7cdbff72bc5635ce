//! The flags of `eval`.

use crate::engine::{CacheType, GpuLayers};
use crate::eval::{Encoding, GroupBy};
use crate::options::{HubArgs, ScoringArgs};
use std::ffi::OsString;
use std::path::PathBuf;

/// Measure what quantization costs: perplexity, and the distance from the unquantized model
///
/// Prints one table over all files. Perplexity is that of llama-perplexity on the same text: chunks of -c tokens, of which
/// the second half is scored. With --base, the table also has the Kullback-Leibler divergence from the base (KL, in nats:
/// mean, median, percentiles, maximum), the share of tokens for which both have the same most likely token, and the root
/// of the mean square of the difference of the probabilities (RMS Δp). Base and files are computed in one pass where memory
/// holds them, else one after the other. A run that is stopped keeps what it has: run the same command again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant eval tulu-2-7b-Q4_K_M.gguf\n  \
    tulu-quant eval --base tulu-2-7b tulu-2-7b-Q4_K_M.gguf tulu-2-7b-Q5_K_M.gguf tulu-2-7b-Q8_0.gguf\n  \
    tulu-quant eval --base tulu-tiny:BF16 tulu-tiny:Q4_K_M -f wiki.test.raw --json\n  \
    tulu-quant eval tulu-2-7b-Q4_K_M.gguf --kv q8_0,q4_0\n  \
    tulu-quant eval tulu-2-7b --types Q4_K_M,Q5_K_M,Q8_0\n  \
    tulu-quant eval --base tulu-2-7b tulu-2-7b-Q4_K_M.gguf --by-tensor --chunks 8 --html report.html\n  \
    tulu-quant eval tulu-2-7b --suggest 3.5G --chunks 8")]
pub(crate) struct Args {
    /// Files to evaluate: .gguf files, or names of models with :TYPE. With --types or --suggest, one checkpoint folder, model
    /// name, or .gguf file of F32, F16 or BF16
    #[arg(required = true, value_name = "FILE|CHECKPOINT")]
    pub(super) files: Vec<OsString>,
    /// Compare with this model: a .gguf file; or a checkpoint folder or model name, converted to BF16 in the cache first
    #[arg(short, long, value_name = "MODEL", env = "TULU_QUANT_BASE")]
    pub(super) base: Option<OsString>,
    /// Convert CHECKPOINT to these types, separated by commas, in a temporary folder; compare them with the checkpoint, and
    /// delete them
    #[arg(long, value_name = "TYPES", value_delimiter = ',', conflicts_with = "base", env = "TULU_QUANT_TYPES")]
    pub(super) types: Vec<String>,
    /// With --types or --suggest: quantize with this importance matrix; auto: make one first, as `convert` does
    #[arg(long, value_name = "FILE|auto", env = "TULU_QUANT_IMATRIX")]
    pub(super) imatrix: Option<PathBuf>,
    /// Find the tensors that cost most: swap one group of tensors at a time between the base and each file, and evaluate it.
    /// This takes one pass over the text for each group
    #[arg(long, value_enum, value_name = "GROUPS", num_args = 0..=1, require_equals = true, default_missing_value = "all",
          env = "TULU_QUANT_BY_TENSOR")]
    pub(super) by_tensor: Option<GroupBy>,
    /// Find types for groups of tensors such that the file of CHECKPOINT has at most this size; test them, and print the
    /// command that converts
    #[arg(long, value_name = "N(M|G)", conflicts_with_all = ["base", "types", "by_tensor", "kv", "base_file"],
          value_parser = file_size, env = "TULU_QUANT_SUGGEST")]
    pub(super) suggest: Option<u64>,
    /// Evaluate on this text: plain text in UTF-8 (- reads stdin), or conversations ({"messages": …} lines in a .jsonl
    /// file), of which only what the assistant writes is scored [default: a text that the program carries]
    #[arg(short, long, value_name = "TEXT", env = "TULU_QUANT_FILE")]
    pub(super) file: Option<PathBuf>,
    /// Evaluate each file also with these types of the KV cache (keys and values), separated by commas; without --base,
    /// the first file with the type of -ctk and -ctv is the base
    #[arg(long, value_enum, value_name = "TYPES", value_delimiter = ',', env = "TULU_QUANT_KV")]
    pub(super) kv: Vec<CacheType>,
    /// Evaluate each file also with these numbers of layers on the GPU (numbers, all, auto), separated by commas; without
    /// --base, the first file with the number of -ngl is the base. `-ngl 0 --offload all` compares the GPU with the CPU
    #[arg(long, value_name = "LAYERS", value_delimiter = ',', value_parser = str::parse::<GpuLayers>,
          env = "TULU_QUANT_OFFLOAD")]
    pub(super) offload: Vec<GpuLayers>,
    /// Keep the base's distributions in this file, and use them if the file has them from an earlier run
    #[arg(long, value_name = "FILE", requires = "base", env = "TULU_QUANT_BASE_FILE")]
    pub(super) base_file: Option<PathBuf>,
    /// How distributions of the base are stored in a file
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_BASE_ENCODING")]
    pub(super) base_encoding: Encoding,
    /// Do not measure the speed of prompt processing and generation
    #[arg(long, env = "TULU_QUANT_NO_SPEED")]
    pub(super) no_speed: bool,
    /// Print the table in Markdown; --json takes precedence
    #[arg(long, env = "TULU_QUANT_MARKDOWN")]
    pub(super) markdown: bool,
    /// Write the results to this file as a page: one HTML file with drawings
    #[arg(long, value_name = "FILE", env = "TULU_QUANT_HTML")]
    pub(super) html: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(flatten)]
    pub(super) scoring: ScoringArgs,
}

/// Parses a size of a file: a number with K, M or G, in powers of ten.
fn file_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, factor) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M') => (&text[..text.len() - 1], 1e6),
        Some(b'G') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let size = number.parse::<f64>().ok().map(|n| n * factor).filter(|n| (1.0..1e18).contains(n));
    size.map(|n| n as u64).ok_or_else(|| format!("'{text}' is not a size such as 4G or 3500M"))
}

#[cfg(test)]
mod tests {
    use super::file_size;

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        assert_eq!(["3.5G", "700m", "12K", "1234"].map(file_size), [3_500_000_000, 700_000_000, 12_000, 1234].map(Ok));
        for wrong in ["", "G", "-1G", "4T", "nan", "0"] {
            assert!(file_size(wrong).is_err(), "{wrong}");
        }
    }
}

//! `tulu-quant batch merge`: joins the outputs of all shards.

use crate::batch::identity::Identity;
use crate::batch::manifest::{ModelInfo, OutputInfo, Tokens};
use crate::batch::paths::exists;
use crate::batch::{Manifest, ShardOutputs, output_exists};
use crate::error::{Code, Exit, Failure};
use crate::stderr;
use serde_json::json;
use std::path::PathBuf;

/// Join the outputs of all shards into one, in the order of the input
///
/// Each part needs its manifest next to it. Nothing is written if a shard is missing or
/// duplicated, if a part has another input, model or settings, or if it was modified. The exit
/// code is 1 if some records failed.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  tulu-quant batch merge -o answers.jsonl part-*.jsonl")]
pub(super) struct MergeArgs {
    /// Output file
    #[arg(short, long, value_name = "OUT", env = "TULU_QUANT_OUTPUT")]
    output: PathBuf,
    /// The outputs of the shards, in any order
    #[arg(required = true, value_name = "PART")]
    parts: Vec<PathBuf>,
    /// Replace OUT if it exists
    #[arg(long, env = "TULU_QUANT_FORCE")]
    force: bool,
    /// Print the summary to stdout as JSON
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &MergeArgs) -> Result<Exit, Failure> {
    let output = &args.output;
    let parts = ShardOutputs::open(&args.parts)?;
    if !args.force && exists(output)? {
        return Err(output_exists(output, ""));
    }
    let (written, failed) = parts.join(output)?;
    let Some(first) = parts.list.first().map(|part| &part.manifest) else {
        return Err(Failure::engine(Code::Defect, "nothing was merged", "report this"));
    };
    let (prompt, completion) = (parts.sum(|part| part.tokens.prompt), parts.sum(|part| part.tokens.completion));
    let run = Identity { shard: None, window: parts.n_ctx(), ..first.identity() };
    let made = OutputInfo {
        path: output.display().to_string(),
        sha256: written.sha256,
        records: parts.total,
        failed,
        errors: written.errors.as_ref().map(|path| path.display().to_string()),
    };
    let mut manifest =
        Manifest::new(&run, first.input.clone(), made, ModelInfo::clone(&first.model), Tokens { prompt, completion });
    manifest.parts = parts.list.iter().map(|part| part.manifest.clone()).collect();
    manifest.write(output)?;
    stderr::line(&format!(
        "{} records of {} shards: {} answered, {failed} failed.",
        parts.total,
        parts.list.len(),
        parts.total - failed
    ));
    if args.json {
        let summary = json!({
            "output": output.display().to_string(),
            "shards": parts.list.len(),
            "records": parts.total,
            "answered": parts.total - failed,
            "failed": failed,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
        });
        crate::stdout::print(&format!("{summary}\n"))?;
    }
    Ok(if failed > 0 { Exit::Partial } else { Exit::Done })
}

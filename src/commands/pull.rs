//! `pull`: a checkpoint from the Hub into the cache that is shared with `huggingface_hub`, without converting it.

use crate::cli::HubArgs;
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::hub::Hub;
use crate::model::{named, source};
use crate::stderr;
use crate::table;
use serde_json::json;

/// Fetch a checkpoint from the Hugging Face Hub without converting it
///
/// Only what a conversion needs is fetched: safetensors when there are some, else the .bin files, and the configuration,
/// vocabulary, licence and model card. The folder (in the cache that is shared with huggingface_hub) is printed on stdout.
/// Run it again after an interruption: it goes on where it was.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tulu-quant pull tulu-2-dpo-13b\n  tulu-quant pull allenai/tulu-2-7b@main -j 8\n  \
    tulu-quant convert \"$(tulu-quant pull tulu-2-7b)\" -q Q5_K_M -o ."
)]
pub(crate) struct Args {
    /// A short name of the family (see `tulu-quant models`) or a Hub id, OWNER/NAME[@REVISION]
    #[arg(env = "TULU_QUANT_MODEL")]
    model: String,
    /// Print folder, commit and sizes as one JSON object
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let repo = named::repo(&args.model)?;
    let interrupt = Interrupt::install()?;
    let hub = Hub::from_env(&interrupt)?;
    let (folder, fetched) = match hub.settings().cache.complete(&repo).filter(|_| !args.hub.refresh) {
        Some(folder) => (folder, 0),
        None => {
            let listing = source::listing(&hub, &repo)?;
            let files = listing.needed()?.all();
            let fetched = hub.to_fetch(&listing, &files);
            stderr::line(&format!(
                "Fetching {} at {:.8}: {} in {} files, {} of it not here yet",
                repo.id(),
                listing.commit,
                table::bytes(files.iter().map(|file| file.size).sum()),
                files.len(),
                table::bytes(fetched),
            ));
            (hub.pull(&listing, &files, args.hub.fetch.max_workers)?, fetched)
        }
    };
    let shown = folder.display().to_string();
    let commit = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let text = if args.json {
        json!({"repository": repo.id(), "commit": commit, "folder": shown, "fetched_bytes": fetched}).to_string()
    } else {
        shown
    };
    crate::stdout(&(text + "\n"))
}

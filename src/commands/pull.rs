//! `pull`: downloads a checkpoint from the Hub into the cache shared with `huggingface_hub`, without converting it.

use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::bundled::Bundle;
use crate::model::hub::{Hub, Listing, RemoteFile, RepoId};
use crate::model::model_ref::{self, ModelRef};
use crate::model::published_gguf::{self, Wanted};
use crate::model::{ready_gguf, registry, resolve};
use crate::sanitize::one_line;
use crate::stderr;
use crate::table::{self, Align};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Download a checkpoint from the Hugging Face Hub without converting it
///
/// Downloads what a conversion needs: the safetensors files, or else the .bin files, and the configuration, vocabulary,
/// licence and model card. Prints the folder, which is in the cache shared with huggingface_hub. Of a repository that has
/// only GGUF files, downloads one (OWNER/NAME:TYPE or OWNER/NAME:FILE; by default Q4_K_M) and prints its path. To resume
/// after an interruption, run the same command again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tulu-quant pull tulu-2-dpo-13b\n  tulu-quant pull allenai/tulu-2-7b@main -j 8\n  \
    tulu-quant pull tulu-2-70b --dry-run\n  tulu-quant pull OWNER/NAME-GGUF:Q5_K_M\n  \
    tulu-quant convert \"$(tulu-quant pull tulu-2-7b)\" -q Q5_K_M -o ."
)]
pub(crate) struct Args {
    /// A short name of the family (see `tulu-quant models`), a Hub id, OWNER/NAME[@REVISION], or a URL of the Hub
    #[arg(env = "TULU_QUANT_MODEL")]
    model: String,
    /// Print what would be downloaded, file by file, and exit
    #[arg(long, env = "TULU_QUANT_DRY_RUN", value_parser = clap::builder::FalseyValueParser::new())]
    dry_run: bool,
    /// Print folder, commit and sizes as one JSON object
    #[arg(long, env = "TULU_QUANT_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    json: bool,
    /// Check the Hub for a newer revision; by default a complete checkpoint in the cache is used without a request
    #[arg(long, env = "TULU_QUANT_REFRESH", help_heading = "Hugging Face Hub", value_parser = clap::builder::FalseyValueParser::new())]
    refresh: bool,
    /// Download over N connections at the same time
    #[arg(
        short = 'j',
        long,
        value_name = "N",
        default_value = "4",
        env = "TULU_QUANT_MAX_WORKERS",
        help_heading = "Hugging Face Hub"
    )]
    max_workers: NonZeroUsize,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let (repo, wanted) = match target(&args.model)? {
        Target::Repo(repo, wanted) => (repo, wanted),
        Target::Bundled(bundle) => return print_result(args, &json!(null), &bundle.folder()?, None, 0),
    };
    let interrupt = Interrupt::install()?;
    let hub = Hub::from_env(&interrupt)?;
    if !args.refresh && !args.dry_run {
        let cache = &hub.settings().cache;
        let folder = if wanted.is_none() { cache.complete_snapshot(&repo)? } else { None };
        if let Some(folder) = folder {
            return print_result(args, &json!(repo.id()), &folder, None, 0);
        }
        let wanted = wanted.as_ref().unwrap_or(&Wanted::Default);
        let file = ready_gguf::cached(cache, &repo, wanted, hub.settings().offline)?;
        if let (Some(file), Some(folder)) = (file, cache.partial_snapshot(&repo)?) {
            return print_result(args, &json!(repo.id()), &folder, Some(&file), 0);
        }
    }
    let listing = resolve::list_repo(&hub, &repo)?;
    let is_gguf = matches!(wanted, Some(Wanted::File(_)))
        || listing.needed().is_err() && listing.files.iter().any(|file| published_gguf::is_model(&file.path));
    let files = match &wanted {
        wanted if is_gguf => ready_gguf::choose(&listing, wanted.as_ref().unwrap_or(&Wanted::Default))?,
        None => listing.needed()?.all(),
        Some(_) => return Err(typed(&args.model)),
    };
    let fetched = hub.to_fetch(&listing, &files);
    if args.dry_run {
        return crate::stdout::print(&plan(args, &hub, &listing, &files));
    }
    stderr::line(&format!(
        "Fetching {} at {:.8}: {} in {}, {} of it not here yet",
        repo.id(),
        listing.commit,
        table::bytes(bytes(&files)),
        table::count(files.len(), "file", "files"),
        table::bytes(fetched),
    ));
    let folder = hub.pull(&listing, &files, args.max_workers)?;
    let file = files.first().filter(|_| is_gguf).map(|file| folder.join(&file.path));
    print_result(args, &json!(repo.id()), &folder, file.as_deref(), fetched)
}

/// What to get.
enum Target {
    /// A repository, and the GGUF file that is asked for.
    Repo(RepoId, Option<Wanted>),
    /// A part of the program.
    Bundled(Bundle),
}

/// Returns what to get.
fn target(model: &str) -> Result<Target, Failure> {
    match model_ref::parse_remote(model)
        .map_err(|failure| if failure.code == Code::Type { typed(model) } else { failure })?
    {
        ModelRef::Hub(repo, None) => Ok(Target::Repo(repo, None)),
        ModelRef::Hub(repo, Some(ftype)) if registry::find_repo(&repo).is_none() => {
            Ok(Target::Repo(repo, Some(ready_gguf::wanted(Some(ftype)))))
        }
        ModelRef::HubGguf(repo, wanted) => Ok(Target::Repo(repo, Some(wanted))),
        ModelRef::Bundled(bundle, None) => Ok(Target::Bundled(bundle)),
        _ => Err(typed(model)),
    }
}

/// The error for a type after the name of a checkpoint.
fn typed(model: &str) -> Failure {
    let what = "pull does not accept NAME:TYPE; it downloads the checkpoint as it is";
    let fix = "leave the type out; `chat NAME:TYPE` and `convert NAME -q TYPE` convert to one";
    Failure::input(Code::Request, what, fix).at(model)
}

fn bytes(files: &[&RemoteFile]) -> u64 {
    files.iter().map(|file| file.size).fold(0, u64::saturating_add)
}

/// Prints the result to stdout.
fn print_result(
    args: &Args,
    repository: &Value,
    folder: &Path,
    file: Option<&Path>,
    fetched: u64,
) -> Result<Exit, Failure> {
    let shown = folder.display().to_string();
    let file = file.map(|file| file.display().to_string());
    let commit = folder.file_name().filter(|_| !repository.is_null()).map(|name| name.to_string_lossy().into_owned());
    let text = if args.json {
        json!({"repository": repository, "commit": commit, "folder": shown, "file": file, "fetched_bytes": fetched})
            .to_string()
    } else {
        file.unwrap_or(shown)
    };
    crate::stdout::print(&(text + "\n"))
}

/// Returns the plan of a download as text, for `--dry-run`.
fn plan(args: &Args, hub: &Hub, listing: &Listing, needed: &[&RemoteFile]) -> String {
    let files: Vec<(&str, u64, bool)> =
        needed.iter().map(|file| (file.path.as_str(), file.size, hub.to_fetch(listing, &[*file]) == 0)).collect();
    let fetches = hub.to_fetch(listing, needed);
    let cache: PathBuf = hub.settings().cache.repo(&listing.repo);
    if args.json {
        let files: Vec<Value> =
            files.iter().map(|(path, bytes, here)| json!({"path": path, "bytes": bytes, "here": here})).collect();
        return json!({"repository": listing.repo.id(), "commit": listing.commit, "gated": listing.gated,
            "licence": listing.licence, "bytes": bytes(needed), "to_fetch_bytes": fetches, "files": files})
        .to_string()
            + "\n";
    }
    let mut rows = vec![["file", "size", "here"].map(String::from).to_vec()];
    rows.extend(files.into_iter().map(|(path, bytes, here)| {
        vec![one_line(path), table::bytes(bytes), if here { "yes" } else { "-" }.to_owned()]
    }));
    format!(
        "{} at {:.8}: {}, of which {} would be fetched into {}\n{}",
        listing.repo.id(),
        listing.commit,
        table::bytes(bytes(needed)),
        table::bytes(fetches),
        crate::sanitize::shown(&cache),
        table::render(&[Align::Left, Align::Right, Align::Left], &rows)
    )
}

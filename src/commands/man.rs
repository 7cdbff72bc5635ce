//! `tulu-quant man`: manual pages from the same definitions as the flags themselves.

use crate::error::{Code, Exit, Failure};
use clap::Command;
use clap_mangen::Man;
use std::fs;
use std::path::PathBuf;

/// Print a manual page, or write all of them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant man chat | man -l -\n  \
    tulu-quant man --dir ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// The page of this verb; without it, the page of tulu-quant
    #[arg(env = "TULU_QUANT_MAN_VERB")]
    verb: Option<String>,
    /// Write the pages of tulu-quant and of every verb into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "verb", env = "TULU_QUANT_MAN_DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, mut whole: Command) -> Result<Exit, Failure> {
    // Hands what is global down to the verbs.
    whole.build();
    let shown = |verb: &&Command| verb.get_name() != "help" && !verb.is_hide_set();
    let pages: Vec<Command> = whole.get_subcommands().filter(shown).map(page).collect();
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).map_err(|err| Failure::io(dir, "cannot create the folder", &err))?;
        for page in pages.into_iter().chain([whole]) {
            let file = dir.join(format!("{}.1", page.get_name()));
            fs::write(&file, roff(page)?).map_err(|err| Failure::io(&file, "cannot write the page", &err))?;
        }
        return Ok(Exit::Done);
    }
    let page = match &args.verb {
        None => whole,
        Some(verb) => {
            let wanted = format!("tulu-quant-{verb}");
            pages.into_iter().find(|page| page.get_name() == wanted).ok_or_else(|| {
                Failure::input(Code::Verb, format!("there is no verb '{verb}'"), "see `tulu-quant --help`")
            })?
        }
    };
    crate::stdout::print(&roff(page)?)
}

/// The verb as a command of its own, named as its page is.
fn page(verb: &Command) -> Command {
    let name: &'static str = Box::leak(format!("tulu-quant-{}", verb.get_name()).into_boxed_str());
    verb.clone().name(name).bin_name(verb.get_bin_name().unwrap_or(name).to_owned())
}

fn roff(command: Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    let failed = |err: std::io::Error| Failure::engine(Code::Defect, err.to_string(), "report this");
    Man::new(command).render(&mut page).map_err(failed)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

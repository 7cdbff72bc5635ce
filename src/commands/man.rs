//! `man`: manual pages, made from the definition of the command line.

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
    /// Print the page of this subcommand; without it, the page of tulu-quant
    #[arg(value_name = "SUBCOMMAND", env = "TULU_QUANT_MAN_VERB")]
    subcommand: Option<String>,
    /// Write the pages of tulu-quant and of every subcommand into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "subcommand", env = "TULU_QUANT_MAN_DIR")]
    dir: Option<PathBuf>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, mut whole: Command) -> Result<Exit, Failure> {
    // Adds the global flags to the subcommands.
    whole.build();
    let shown = |command: &&Command| command.get_name() != "help" && !command.is_hide_set();
    let pages: Vec<Command> = whole.get_subcommands().filter(shown).map(page).collect();
    if let Some(dir) = &args.dir {
        fs::create_dir_all(dir).map_err(|err| Failure::io(dir, "cannot create the folder", &err))?;
        for page in pages.into_iter().chain([whole]) {
            let file = dir.join(format!("{}.1", page.get_name()));
            fs::write(&file, roff(page)?).map_err(|err| Failure::io(&file, "cannot write the page", &err))?;
        }
        return Ok(Exit::Done);
    }
    let page = match &args.subcommand {
        None => whole,
        Some(name) => {
            let wanted = format!("tulu-quant-{name}");
            pages.into_iter().find(|page| page.get_name() == wanted).ok_or_else(|| {
                Failure::input(Code::Verb, format!("unknown subcommand '{name}'"), "see `tulu-quant --help`")
            })?
        }
    };
    crate::stdout::print(&roff(page)?)
}

/// Returns the subcommand as a separate command, named like its page.
fn page(subcommand: &Command) -> Command {
    let name: &'static str = Box::leak(format!("tulu-quant-{}", subcommand.get_name()).into_boxed_str());
    subcommand.clone().name(name).bin_name(subcommand.get_bin_name().unwrap_or(name).to_owned())
}

fn roff(command: Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    let failed = |err: std::io::Error| Failure::engine(Code::Defect, err.to_string(), "report this");
    Man::new(command).render(&mut page).map_err(failed)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

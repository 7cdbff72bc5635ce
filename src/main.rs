//! `tulu-quant`: parse → dispatch → print the error → exit code. A table of contents; the rooms are beside it.
#![forbid(unsafe_code)]

mod batch;
mod bench;
mod chat;
mod cli;
mod clock;
mod commands;
mod decode;
mod engine;
mod error;
mod hex;
mod interrupt;
mod model;
mod progress;
mod prompt;
mod sanitize;
mod stderr;
mod table;
mod watch;

use clap::Parser as _;
use error::{Exit, Failure};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    engine::spin_briefly();
    let cli = match cli::Cli::try_parse_from(cli::normalise(std::env::args_os())) {
        Ok(cli) => cli,
        Err(err) => return error::report_usage(&err),
    };
    let format = cli.error_format;
    if cli.no_color {
        console::set_colors_enabled(false);
        console::set_colors_enabled_stderr(false);
    }
    llama_ext::log::capture(None);
    match commands::run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(format),
    }
}

/// Writes data to stdout. A reader that left (`| head`) is no error; a full disk behind `>` is.
fn stdout(text: &str) -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::machine("STDOUT", format!("cannot write the output: {err}"), "check where it goes"))
        }
        _ => Ok(Exit::Done),
    }
}

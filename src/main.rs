//! `tulu-quant`: parse → dispatch → print the error → exit code. A table of contents; the rooms are beside it.
#![forbid(unsafe_code)]

mod batch;
mod chat;
mod cli;
mod commands;
mod decode;
mod engine;
mod error;
mod interrupt;
mod model;
mod progress;
mod prompt;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse_from(cli::normalise(std::env::args_os())) {
        Ok(cli) => cli,
        Err(err) => return error::report_usage(&err),
    };
    let format = cli.error_format;
    match commands::run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(format),
    }
}

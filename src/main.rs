//! Entry point of `tulu-quant`: parses the command line, runs the subcommand, prints the error, returns the exit code.
#![forbid(unsafe_code)]

mod api;
mod atomic_file;
mod batch;
mod bench;
mod chat;
mod cli;
mod clock;
mod commands;
mod corpus;
mod decode;
mod defect;
mod engine;
mod error;
mod eval;
mod exit;
mod grammar;
mod imatrix;
mod interrupt;
mod model;
mod options;
mod platform;
mod progress;
mod prompt;
mod sanitize;
mod serve;
mod stderr;
mod stdout;
mod table;
mod watch;

use error::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(name) = llama_ext::cpu_features::missing() {
        let end = ", which this CPU lacks; build it on this machine with `cargo build --release`\n";
        stderr::plain(&["tulu-quant: error[CPU]: this program was built for CPUs with ", name, end]);
        return Exit::Machine.into();
    }
    defect::guarded(|| {
        platform::reexec_with_short_openmp_spin();
        let line = match cli::parse(std::env::args_os()) {
            Ok(line) => line,
            Err(refused) => return refused.report(),
        };
        llama_ext::log::capture(None);
        match commands::run(line.command, || cli::command(false)) {
            Ok(exit) => exit.into(),
            Err(failure) => line.variables.name_in(failure).report(line.error_format),
        }
    })
}

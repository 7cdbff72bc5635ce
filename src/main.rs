//! `tulu-quant`: parse → dispatch → print the error → exit code. A table of contents; the rooms are beside it.
#![forbid(unsafe_code)]

mod atomic_file;
mod batch;
mod bench;
mod chat;
mod cli;
mod clock;
mod commands;
mod decode;
mod defect;
mod engine;
mod error;
mod hex;
mod interrupt;
mod model;
mod options;
mod progress;
mod prompt;
mod sanitize;
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
        engine::spin_briefly();
        let line = match cli::parse(std::env::args_os()) {
            Ok(line) => line,
            Err(refused) => return refused.report(),
        };
        llama_ext::log::capture(None);
        match commands::run(line.command, || cli::command(false)) {
            Ok(exit) => exit.into(),
            Err(failure) => line.variables.named(failure).report(line.error_format),
        }
    })
}

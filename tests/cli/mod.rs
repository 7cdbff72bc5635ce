//! The command line: usage, manual, progress, stderr, and the small subcommands.

mod backend_files;
mod bench;
mod doctor;
mod manual;
mod progress;
mod prompt;
mod stderr;
mod usage;

//! Exit codes.

use std::process::ExitCode;

/// How a command ended. The numbers are a contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for exists and is valid.
    Done = 0,
    /// Finished, but some records failed or `verify` found damage.
    Partial = 1,
    /// Fix your input or flags.
    Input = 2,
    /// The machine: disk full, permission, memory, lock.
    Machine = 3,
    /// The engine's failure or our defect.
    Engine = 4,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

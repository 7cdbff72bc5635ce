//! Exit codes.

use std::process::ExitCode;

/// The exit code of a command. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Done = 0,
    /// Finished, but records failed or `verify` found damage.
    Partial = 1,
    /// Invalid input or flags.
    Input = 2,
    /// System error: disk full, permission, memory, lock.
    Machine = 3,
    /// llama.cpp failed, or this program has a defect.
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

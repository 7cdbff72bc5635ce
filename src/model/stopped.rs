//! The error when a signal stops a download or a conversion.

use crate::error::{Exit, Failure};

/// Creates the error for a signal that stops work that can be resumed.
pub(crate) fn stopped(exit: Exit) -> Failure {
    let what = if exit == Exit::Terminated { "stopped by SIGTERM" } else { "stopped by Ctrl-C" };
    let fix = "run the same command again to resume";
    Failure { exit, what: what.to_owned(), fix: fix.to_owned(), ..Failure::interrupted() }
}

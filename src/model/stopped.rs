//! The error of work on a model that a signal ended.

use crate::error::{Exit, Failure};

/// Somebody asked to stop while something was fetched or waited for: what has arrived is kept.
pub(crate) fn stopped(exit: Exit) -> Failure {
    let what = if exit == Exit::Terminated { "stopped by SIGTERM" } else { "stopped by Ctrl-C" };
    let fix = "the same command goes on where it was";
    Failure { exit, what: what.to_owned(), fix: fix.to_owned(), ..Failure::interrupted() }
}

//! Results on stdout. A model's answer goes through `chat/`, records through `batch/`.

use crate::error::{Code, Exit, Failure};
use std::io::{ErrorKind, Write as _};

/// Writes `text` to stdout. A closed pipe (`| head`) is not an error; a full disk behind `>` is.
///
/// # Errors
/// `STDOUT` when the text cannot be written.
pub(crate) fn print(text: &str) -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    done(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Returns the exit code after a write to stdout; see [`print`].
pub(crate) fn done(written: std::io::Result<()>) -> Result<Exit, Failure> {
    match written {
        Err(err) if err.kind() != ErrorKind::BrokenPipe => Err(Failure::machine(
            Code::Stdout,
            format!("cannot write the output: {err}"),
            "check the program or file that receives the output",
        )),
        _ => Ok(Exit::Done),
    }
}

//! The terminal on stdin: its settings, and writes to stderr without a lock.

use std::io;

/// The settings of the terminal, to be restored later.
#[derive(Clone, Debug)]
pub(crate) struct TerminalState {
    #[cfg(unix)]
    termios: rustix::termios::Termios,
}

impl TerminalState {
    /// Reads the settings of the terminal on stdin. On Windows nothing is stored, because the line editor restores the
    /// console.
    pub(crate) fn save() -> io::Result<Self> {
        #[cfg(unix)]
        {
            Ok(Self { termios: rustix::termios::tcgetattr(io::stdin())? })
        }
        #[cfg(not(unix))]
        {
            Ok(Self {})
        }
    }

    /// Restores the settings. Errors are ignored, because the terminal may be closed.
    pub(crate) fn restore(&self) {
        #[cfg(unix)]
        {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.termios);
        }
    }
}

/// Returns whether the terminal is in raw mode, in which Ctrl-C is a character and not a signal.
pub(crate) fn is_raw() -> bool {
    #[cfg(unix)]
    {
        use rustix::termios::{LocalModes, tcgetattr};
        tcgetattr(io::stdin()).is_ok_and(|now| !now.local_modes.contains(LocalModes::ISIG))
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// Writes to stderr; on Unix without the standard library's lock, because a thread that panicked may hold it. Write
/// errors are ignored.
pub(crate) fn write_unlocked(bytes: &[u8]) {
    #[cfg(unix)]
    {
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(io::stderr(), rest) {
                Ok(n @ 1..) => rest = &rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    }
    #[cfg(not(unix))]
    {
        use std::io::Write as _;
        let _ = io::stderr().write_all(bytes);
    }
}

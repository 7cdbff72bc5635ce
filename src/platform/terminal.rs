//! The terminal that stdin is: its settings, and writes that need no lock.

use std::io;

/// The settings of the terminal, to be restored later.
#[derive(Clone, Debug)]
pub(crate) struct TerminalState {
    #[cfg(unix)]
    termios: rustix::termios::Termios,
}

impl TerminalState {
    /// Reads the settings of the terminal that stdin is. On Windows there is nothing to keep: the line editor restores the
    /// console itself.
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

    /// Restores the settings. A terminal that is gone needs none.
    pub(crate) fn restore(&self) {
        #[cfg(unix)]
        {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.termios);
        }
    }
}

/// Returns whether the terminal is in raw mode: Ctrl-C is a character there and no signal.
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

/// Writes to stderr without the standard library's lock (on Unix), which the thread that panicked may hold. Bytes that cannot
/// be written are dropped.
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

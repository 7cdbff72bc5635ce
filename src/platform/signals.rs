//! Ctrl-C on every system; SIGTERM and SIGHUP on Unix.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

/// A signal of the system that requests a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT, or Ctrl-C on Windows.
    CtrlC,
    /// SIGTERM.
    #[cfg_attr(not(unix), allow(dead_code, reason = "Windows reports none"))]
    Terminate,
    /// SIGHUP: the terminal is gone.
    Hangup,
}

impl Signal {
    /// The number of signal(7), the same on every Unix.
    const fn number(self) -> i32 {
        match self {
            Self::Hangup => 1,
            Self::CtrlC => 2,
            Self::Terminate => 15,
        }
    }
}

/// Calls `handler` on a separate thread, once for each Ctrl-C, in order. A SIGINT that was ignored when the program
/// started (`nohup`, a background job of a script) stays ignored. May be called once for each process.
///
/// # Errors
/// The system's error, such as when it refuses the thread; [`raise_flag`] needs none.
pub(crate) fn set_ctrl_c(handler: impl FnMut() + Send + 'static) -> io::Result<()> {
    if is_ignored(Signal::CtrlC) {
        return Ok(());
    }
    match ctrlc::try_set_handler(handler) {
        Ok(()) => Ok(()),
        // Another handler exists, or the signal is ignored on a system where [`is_ignored`] cannot detect this.
        Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(err) => Err(io::Error::other(err)),
    }
}

/// Sets `flag` at the first `signal`; ends the process immediately with `exit_code` at the second. Needs no thread. Does
/// nothing for a signal that was ignored when the program started, and on Windows.
pub(crate) fn raise_flag(signal: Signal, flag: &Arc<AtomicBool>, exit_code: i32) -> io::Result<()> {
    #[cfg(unix)]
    if !is_ignored(signal) {
        let number = signal.number();
        // The order matters: at the first signal, the first action must run while the flag is still false.
        signal_hook::flag::register_conditional_shutdown(number, exit_code, flag.clone())?;
        signal_hook::flag::register(number, flag.clone())?;
    }
    #[cfg(not(unix))]
    let _ = (signal, flag, exit_code);
    Ok(())
}

/// Sends every later SIGTERM and SIGHUP to `receiver`, unless the signal was ignored when the program started.
pub(crate) fn send_hangup_and_terminate(receiver: Sender<Signal>) -> io::Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGTERM};
        let heard = [(SIGTERM, Signal::Terminate), (SIGHUP, Signal::Hangup)];
        let wanted = heard.into_iter().filter(|(_, signal)| !is_ignored(*signal)).map(|(number, _)| number);
        let mut signals = signal_hook::iterator::Signals::new(wanted)?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for number in signals.forever() {
                let signal = if number == SIGHUP { Signal::Hangup } else { Signal::Terminate };
                if receiver.send(signal).is_err() {
                    return;
                }
            }
        })?;
    }
    #[cfg(not(unix))]
    drop(receiver);
    Ok(())
}

/// Ends the process immediately, without destructors and without exit handlers of C libraries, which may wait for
/// threads.
pub(crate) fn exit_now(exit_code: i32) -> ! {
    #[cfg(unix)]
    signal_hook::low_level::exit(exit_code);
    #[cfg(not(unix))]
    std::process::exit(exit_code)
}

/// Ends the process with the default action of SIGHUP. Does nothing on Windows, which has no SIGHUP.
pub(crate) fn end_as_hangup() {
    #[cfg(unix)]
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGHUP);
}

/// Returns whether `signal` was ignored when the program started. Call it before a handler is set. Linux reports it in
/// /proc; always false on other systems.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal.number() - 1) & 1 == 1)
}

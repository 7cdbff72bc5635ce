//! Ctrl-C and SIGTERM. The first one asks: whoever works looks at [`Interrupt::asked`] at least four times a second, and
//! puts things in order. The second one leaves at once, with 130 or 143. A signal that was ignored when the program
//! started (`nohup`, a job that a script put into the background) stays ignored.

use crate::error::{Code, Exit, Failure};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The one that was installed.
static INSTALLED: OnceLock<Interrupt> = OnceLock::new();

/// The request to stop, shared by everything that runs long.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    int: Arc<AtomicBool>,
    term: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes the signals over from the system; once, at the start of a command that runs long.
    pub(crate) fn install() -> Result<Self, Failure> {
        let this = Self { int: Arc::default(), term: Arc::default() };
        for (signal, flag, exit) in [(SIGINT, &this.int, Exit::Interrupted), (SIGTERM, &this.term, Exit::Terminated)] {
            if ignored(signal) {
                continue;
            }
            // In this order: at the first signal the flag is still down when the first action looks at it.
            signal_hook::flag::register_conditional_shutdown(signal, exit as i32, flag.clone())
                .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
                .map_err(|err| {
                    Failure::machine(Code::Signal, format!("cannot listen to signals: {err}"), "report this")
                })?;
        }
        let _ = INSTALLED.set(this.clone());
        Ok(this)
    }

    /// Whether somebody asked to stop, and what the process answers then.
    pub(crate) fn asked(&self) -> Option<Exit> {
        if self.term.load(Ordering::SeqCst) {
            Some(Exit::Terminated)
        } else if self.int.load(Ordering::SeqCst) {
            Some(Exit::Interrupted)
        } else {
            None
        }
    }

    /// The request was obeyed (an answer was stopped) and work goes on: the next Ctrl-C is a first one again.
    pub(crate) fn obeyed(&self) {
        self.int.store(false, Ordering::SeqCst);
    }
}

/// [`Interrupt::asked`] of the one that was installed.
pub(crate) fn asked() -> Option<Exit> {
    INSTALLED.get()?.asked()
}

/// Whether `signal` is ignored, which the program that started this one decided. Linux says so in /proc; elsewhere it is
/// not known, and the answer is no. To be asked before a handler is installed.
pub(crate) fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

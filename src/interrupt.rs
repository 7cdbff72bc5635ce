//! Requests to stop: Ctrl-C and SIGTERM. The first signal sets a flag; long work checks [`Interrupt::asked`] at least
//! four times a second and stops in order. The second signal ends the process at once, with exit code 130 or 143. The
//! signal handlers are set in `platform/signals.rs`.

use crate::exit::Exit;
use crate::platform::{self, Signal};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The instance that handles the signals.
static INSTALLED: OnceLock<Interrupt> = OnceLock::new();

/// The request to stop, shared by all long work.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    int: Arc<AtomicBool>,
    term: Arc<AtomicBool>,
    /// Receives every Ctrl-C, if set.
    listener: Arc<Mutex<Option<Sender<Signal>>>>,
}

/// The system does not let this process handle signals.
#[derive(Debug)]
pub(crate) struct CannotInstall(pub(crate) io::Error);

impl Interrupt {
    /// Handles the signals from now on. Called once, at the start of a command that runs long.
    pub(crate) fn install() -> Result<Self, CannotInstall> {
        let this = Self::unused();
        let handled = this.clone();
        // Where the system refuses a thread, the second Ctrl-C is found by the signal handler itself.
        platform::set_ctrl_c(move || handled.ctrl_c())
            .or_else(|_| platform::raise_flag(Signal::CtrlC, &this.int, Exit::Interrupted as i32))
            .and_then(|()| platform::raise_flag(Signal::Terminate, &this.term, Exit::Terminated as i32))
            .map_err(CannotInstall)?;
        let _ = INSTALLED.set(this.clone());
        Ok(this)
    }

    /// Returns a request to stop that no signal makes.
    pub(crate) fn unused() -> Self {
        Self { int: Arc::default(), term: Arc::default(), listener: Arc::default() }
    }

    /// Handles one Ctrl-C. Runs on the thread of the crate ctrlc, once for each Ctrl-C.
    fn ctrl_c(&self) {
        let second = self.int.swap(true, Ordering::SeqCst);
        if let Some(listener) = &*self.listener.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = listener.send(Signal::CtrlC);
        }
        if second {
            platform::exit_now(Exit::Interrupted as i32);
        }
    }

    /// Returns a channel that receives every Ctrl-C, SIGTERM and SIGHUP from now on; the flags are set first. A
    /// terminal needs it, because nothing checks the flags while the line editor waits for a key.
    pub(crate) fn listen(&self) -> io::Result<Receiver<Signal>> {
        let (sender, receiver) = channel();
        platform::send_hangup_and_terminate(sender.clone())?;
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(receiver)
    }

    /// Returns the exit code of the request to stop, if there was one.
    pub(crate) fn asked(&self) -> Option<Exit> {
        if self.term.load(Ordering::SeqCst) {
            Some(Exit::Terminated)
        } else if self.int.load(Ordering::SeqCst) {
            Some(Exit::Interrupted)
        } else {
            None
        }
    }

    /// Resets the request after it was obeyed (an answer was stopped) and work continues. The next Ctrl-C is then a
    /// first one.
    pub(crate) fn obeyed(&self) {
        self.int.store(false, Ordering::SeqCst);
    }
}

/// Returns [`Interrupt::asked`] of the installed instance.
pub(crate) fn asked() -> Option<Exit> {
    INSTALLED.get()?.asked()
}

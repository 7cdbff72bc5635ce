//! Requests to stop: Ctrl-C and SIGTERM. The first one raises a flag; long work looks at [`Interrupt::asked`] at least four
//! times a second and stops in order. The second one ends the process at once, with 130 or 143. How the system delivers
//! signals is `platform/signals.rs`.

use crate::exit::Exit;
use crate::platform::{self, Signal};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The one that was installed.
static INSTALLED: OnceLock<Interrupt> = OnceLock::new();

/// The request to stop, shared by everything that runs long.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    int: Arc<AtomicBool>,
    term: Arc<AtomicBool>,
    /// Who wants to hear of every Ctrl-C.
    listener: Arc<Mutex<Option<Sender<Signal>>>>,
}

/// The system does not let this process handle signals.
#[derive(Debug)]
pub(crate) struct CannotInstall(pub(crate) io::Error);

impl Interrupt {
    /// Takes the signals over from the system; once, at the start of a command that runs long.
    pub(crate) fn install() -> Result<Self, CannotInstall> {
        let this = Self { int: Arc::default(), term: Arc::default(), listener: Arc::default() };
        let handled = this.clone();
        // Where the system refuses a thread, the second Ctrl-C is found by the signal handler itself.
        platform::set_ctrl_c(move || handled.ctrl_c())
            .or_else(|_| platform::raise_flag(Signal::CtrlC, &this.int, Exit::Interrupted as i32))
            .and_then(|()| platform::raise_flag(Signal::Terminate, &this.term, Exit::Terminated as i32))
            .map_err(CannotInstall)?;
        let _ = INSTALLED.set(this.clone());
        Ok(this)
    }

    /// One Ctrl-C: runs on the thread of the handler, which counts every one.
    fn ctrl_c(&self) {
        let second = self.int.swap(true, Ordering::SeqCst);
        if let Some(listener) = &*self.listener.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = listener.send(Signal::CtrlC);
        }
        if second {
            platform::exit_now(Exit::Interrupted as i32);
        }
    }

    /// Returns a channel that receives every Ctrl-C, SIGTERM and SIGHUP from now on, after the flags are raised. For a
    /// terminal, where somebody must react while nothing looks at the flags.
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

    /// The request was obeyed (an answer was stopped) and work continues: the next Ctrl-C is a first one again.
    pub(crate) fn obeyed(&self) {
        self.int.store(false, Ordering::SeqCst);
    }
}

/// Returns [`Interrupt::asked`] of the one that was installed.
pub(crate) fn asked() -> Option<Exit> {
    INSTALLED.get()?.asked()
}

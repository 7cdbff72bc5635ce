//! All code about processes that differs between operating systems: signals, the terminal, cores and memory limits.
//! Each function works everywhere; its documentation describes the behaviour on systems that lack a feature. The code
//! about files is in `quantize/src/platform/`.

mod available;
mod browser;
mod cgroup;
mod cores;
mod private;
mod process;
mod signals;
mod sockets;
mod terminal;

pub(crate) use available::{Available, available_memory};
pub(crate) use browser::open_url;
pub(crate) use cores::cores;
pub(crate) use private::{append_private, create_private_folder, others_can_access, others_can_write};
pub(crate) use process::{machine_memory, peak_memory, reexec_with_short_openmp_spin};
pub(crate) use signals::{Signal, end_as_hangup, exit_now, raise_flag, send_hangup_and_terminate, set_ctrl_c};
pub(crate) use sockets::inherited_listeners;
pub(crate) use terminal::{TerminalState, is_raw, write_unlocked};

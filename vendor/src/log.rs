//! llama.cpp's log, kept instead of printed: its C functions answer NULL or a number, and the reason is only in the log.

use llama_cpp_sys_2 as sys;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

/// Lines kept: enough for the reason of a failed load with what led to it.
const KEPT: usize = 64;

struct Tail {
    lines: VecDeque<(sys::ggml_log_level, String)>,
    /// llama.cpp continues a line in several calls; the part so far.
    open: Option<(sys::ggml_log_level, String)>,
}

static TAIL: Mutex<Tail> = Mutex::new(Tail { lines: VecDeque::new(), open: None });
/// Who is told each piece of the log as it comes.
pub type Listener = fn(&str);

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// Takes llama.cpp's and ggml's log for this process from now on. `listener` is given each piece as it comes (`--verbose`);
/// it is called from C and must not panic.
pub fn capture(listener: Option<Listener>) {
    if let Ok(mut held) = LISTENER.lock() {
        *held = listener;
    }
    // SAFETY: the callback is a plain function that lives as long as the process and needs no user data.
    unsafe { sys::llama_log_set(Some(keep), std::ptr::null_mut()) };
}

/// The last error lines, else the last warnings, joined on one line; empty when there were none.
#[must_use]
pub fn tail() -> String {
    let Ok(tail) = TAIL.lock() else { return String::new() };
    let of =
        |level| -> Vec<&str> { tail.lines.iter().filter(|(l, _)| *l == level).map(|(_, text)| text.trim()).collect() };
    let errors = of(sys::GGML_LOG_LEVEL_ERROR);
    let said = if errors.is_empty() { of(sys::GGML_LOG_LEVEL_WARN) } else { errors };
    said.join(" | ")
}

/// Forgets what was kept, so that the next [`tail`] is about the next call.
pub fn clear() {
    if let Ok(mut tail) = TAIL.lock() {
        tail.lines.clear();
        tail.open = None;
    }
}

unsafe extern "C" fn keep(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: ggml passes a NUL-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let listener = LISTENER.lock().map_or(None, |held| *held);
    if let Some(tell) = listener {
        tell(&text);
    }
    let Ok(mut tail) = TAIL.lock() else { return };
    let (level, mut line) = match tail.open.take() {
        Some((first, so_far)) if level == sys::GGML_LOG_LEVEL_CONT || level == first => (first, so_far),
        _ => (level, String::new()),
    };
    line.push_str(&text);
    if !line.ends_with('\n') && line.len() < 4096 {
        tail.open = Some((level, line));
    } else if level == sys::GGML_LOG_LEVEL_ERROR || level == sys::GGML_LOG_LEVEL_WARN {
        if tail.lines.len() == KEPT {
            tail.lines.pop_front();
        }
        tail.lines.push_back((level, line));
    }
}

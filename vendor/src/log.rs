//! Stores llama.cpp's log instead of printing it: its C functions return only NULL or a status, and the reason is in
//! the log.

use llama_cpp_sys_2 as sys;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

/// Maximum number of stored lines: enough for the reason of a failed load and the warnings before it.
const LINES_MAX: usize = 64;

struct Tail {
    lines: VecDeque<(sys::ggml_log_level, String)>,
    /// The beginning of a line that llama.cpp logs in several calls.
    open: Option<(sys::ggml_log_level, String)>,
}

static TAIL: Mutex<Tail> = Mutex::new(Tail { lines: VecDeque::new(), open: None });

/// A function that receives each piece of the log.
pub type Listener = fn(&str);

static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// Captures the log of llama.cpp and ggml in this process from now on. `listener` receives each piece as it is logged
/// (`--verbose`). It is called from C and must not panic.
pub fn capture(listener: Option<Listener>) {
    if let Ok(mut current) = LISTENER.lock() {
        *current = listener;
    }
    // SAFETY: the callback is a function that exists until the process ends, and it needs no user data.
    unsafe { sys::llama_log_set(Some(on_log), std::ptr::null_mut()) };
}

/// Returns the last error lines, or the last warnings if there are no errors, joined to one line; empty without either.
#[must_use]
pub fn tail() -> String {
    let Ok(tail) = TAIL.lock() else { return String::new() };
    let of =
        |level| -> Vec<&str> { tail.lines.iter().filter(|(l, _)| *l == level).map(|(_, text)| text.trim()).collect() };
    let errors = of(sys::GGML_LOG_LEVEL_ERROR);
    let lines = if errors.is_empty() { of(sys::GGML_LOG_LEVEL_WARN) } else { errors };
    lines.join(" | ")
}

/// Deletes the stored lines, so that the next [`tail`] returns only later lines.
pub fn clear() {
    if let Ok(mut tail) = TAIL.lock() {
        tail.lines.clear();
        tail.open = None;
    }
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: ggml passes a NUL-terminated string that lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let listener = LISTENER.lock().map_or(None, |current| *current);
    if let Some(listener) = listener {
        listener(&text);
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
        if tail.lines.len() == LINES_MAX {
            tail.lines.pop_front();
        }
        tail.lines.push_back((level, line));
    }
}

//! What becomes of a panic: one line `error[DEFECT]` and exit 4, never Rust's 101 and its backtrace. The line is written
//! past `stderr.rs`: a panic may come while a bar or stderr itself is locked.

use crate::error::{ErrorFormat, Exit, Failure};
use crate::sanitize::one_line;
use rustix::termios::{OptionalActions, Termios, tcsetattr};
use std::io::stderr;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

/// The thread whose panics unwind, so that files under way are removed.
static GUARDED: OnceLock<ThreadId> = OnceLock::new();
/// A panic is on its way out.
static UNWINDING: AtomicBool = AtomicBool::new(false);
/// How the terminal was before an editor took it.
static TERMINAL: OnceLock<Termios> = OnceLock::new();
/// How errors are written, once it is known.
static FORMAT: OnceLock<ErrorFormat> = OnceLock::new();

/// Runs `work`. A panic of this thread unwinds it and ends with exit 4. One of another thread ends the process at once:
/// others may wait for what that thread will never do. So does a second one.
pub(crate) fn guarded(work: impl FnOnce() -> ExitCode) -> ExitCode {
    let _ = GUARDED.set(std::thread::current().id());
    set_hook(Box::new(|panic| {
        say(&failure(panic));
        let mine = GUARDED.get() == Some(&std::thread::current().id());
        if !mine || UNWINDING.swap(true, Ordering::SeqCst) {
            if let Some(before) = TERMINAL.get() {
                let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
            }
            signal_hook::low_level::exit(Exit::Engine as i32);
        }
    }));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Exit::Engine.into())
}

/// How the terminal is to be left when the process ends at once.
pub(crate) fn terminal(before: &Termios) {
    let _ = TERMINAL.set(before.clone());
}

/// How errors are written.
pub(crate) fn format(format: ErrorFormat) {
    let _ = FORMAT.set(format);
}

fn failure(panic: &PanicHookInfo<'_>) -> Failure {
    let payload = panic.payload();
    let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    Failure::engine("DEFECT", format!("{}{place}", one_line(said.unwrap_or("a panic"))), "report this, please")
}

/// Writes the line with nothing that could be locked. What cannot be written is lost.
fn say(failure: &Failure) {
    let line = failure.line(FORMAT.get().copied().unwrap_or_default()) + "\n";
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(stderr(), rest) {
            Ok(n @ 1..) => rest = &rest[n..],
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::guarded;
    use std::process::{Command, ExitCode, Stdio, Termination as _, exit};

    /// Not a test of its own: what the test below runs as a process.
    #[test]
    #[ignore = "run by a_panic_is_one_line_and_exit_4"]
    fn panics() {
        let here = std::env::var("TULU_QUANT_TEST_PANIC").unwrap_or_default();
        let code = guarded(|| {
            match here.as_str() {
                "main" => panic!("first\nline {}", 1),
                "thread" => drop(std::thread::spawn(|| panic!("elsewhere")).join()),
                "locked" => crate::progress::above(|| {
                    let _held = std::io::stderr().lock();
                    panic!("while stderr is locked")
                }),
                "twice" => {
                    struct Bomb;
                    impl Drop for Bomb {
                        fn drop(&mut self) {
                            panic!("second")
                        }
                    }
                    let _bomb = Bomb;
                    panic!("first")
                }
                _ => {}
            }
            ExitCode::SUCCESS
        });
        exit(if code.report() == ExitCode::SUCCESS { 0 } else { 4 });
    }

    #[test]
    fn a_panic_is_one_line_and_exit_4() {
        for (place, wanted) in [
            ("main", "error[DEFECT]: first\\nline 1 (src/defect.rs:"),
            ("thread", "error[DEFECT]: elsewhere (src/defect.rs:"),
            ("locked", "error[DEFECT]: while stderr is locked (src/defect.rs:"),
            ("twice", "error[DEFECT]: second (src/defect.rs:"),
        ] {
            let child = |stderr: Stdio| {
                let program = std::env::current_exe().unwrap();
                let args = ["--exact", "defect::tests::panics", "--ignored", "--nocapture"];
                let mut command = Command::new(program);
                command.args(args).env("TULU_QUANT_TEST_PANIC", place).stdout(Stdio::null()).stderr(stderr);
                command.spawn().unwrap().wait_with_output().unwrap()
            };
            let output = child(Stdio::piped());
            let said = String::from_utf8(output.stderr).unwrap();
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with(&format!("tulu-quant: {wanted}")), "{place}: {said}");
            assert_eq!(output.status.code(), Some(4), "{place}");
            // Nobody reads stderr: the same code, and no waiting.
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            assert_eq!(child(writer.into()).status.code(), Some(4), "{place}");
        }
    }
}

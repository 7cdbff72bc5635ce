//! Turns a panic into one line `error[DEFECT]` and exit code 4, instead of Rust's 101 and a backtrace. If the system
//! cannot start a thread, the panic becomes `error[THREADS]` and exit code 3. The line is not written by `stderr.rs`,
//! because the panicking thread may hold the lock of stderr or of a progress bar.

use crate::error::{Code, ErrorFormat, Exit, Failure};
use crate::platform::{TerminalState, exit_now, write_unlocked};
use crate::sanitize::one_line;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

/// The thread that unwinds after a panic, so that temporary files are deleted.
static GUARDED: OnceLock<ThreadId> = OnceLock::new();
/// Whether that thread is unwinding.
static UNWINDING: AtomicBool = AtomicBool::new(false);
/// The exit code of the first panic.
static EXIT: OnceLock<Exit> = OnceLock::new();
/// The start of the panic message when the system cannot start a thread.
const NO_THREAD: &str = "failed to spawn thread: ";
/// The terminal's settings before the line editor changed them.
static TERMINAL: OnceLock<TerminalState> = OnceLock::new();
/// The format of errors, once the command line is parsed.
static FORMAT: OnceLock<ErrorFormat> = OnceLock::new();

/// Runs `work`. A panic of this thread unwinds the stack and returns exit code 4 or 3. A second panic, or a panic of
/// another thread, ends the process at once, because other threads may wait forever for the one that panicked.
pub(crate) fn guarded(work: impl FnOnce() -> ExitCode) -> ExitCode {
    let _ = GUARDED.set(std::thread::current().id());
    set_hook(Box::new(|panic| {
        let failure = failure(panic);
        print(&failure);
        let _ = EXIT.set(failure.exit);
        let mine = GUARDED.get() == Some(&std::thread::current().id());
        if !mine || UNWINDING.swap(true, Ordering::SeqCst) {
            if let Some(before) = TERMINAL.get() {
                before.restore();
            }
            exit_now(failure.exit as i32);
        }
    }));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| EXIT.get().copied().unwrap_or(Exit::Engine).into())
}

/// Sets the terminal settings to restore when the process ends at once.
pub(crate) fn terminal(before: &TerminalState) {
    let _ = TERMINAL.set(before.clone());
}

/// Sets the format of errors.
pub(crate) fn format(format: ErrorFormat) {
    let _ = FORMAT.set(format);
}

fn failure(panic: &PanicHookInfo<'_>) -> Failure {
    let payload = panic.payload();
    let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    if let Some(why) = said.and_then(|said| said.strip_prefix(NO_THREAD)) {
        let fix = "allow more processes and threads (ulimit -u), or give a smaller -t";
        return Failure::machine(Code::Threads, format!("cannot start a thread: {}", one_line(why)), fix);
    }
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    Failure::engine(Code::Defect, format!("{}{place}", one_line(said.unwrap_or("a panic"))), "report this, please")
}

/// Writes the error line without taking a lock.
fn print(failure: &Failure) {
    let line = failure.line(FORMAT.get().copied().unwrap_or_default()) + "\n";
    write_unlocked(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::guarded;
    use std::process::{Command, ExitCode, Stdio, Termination as _, exit};

    /// Not a test: the test below runs it as a child process.
    #[test]
    #[ignore = "run by a_panic_is_one_line_and_an_exit_code"]
    fn child_panics() {
        let here = std::env::var("TULU_QUANT_TEST_PANIC").unwrap_or_default();
        let code = guarded(|| {
            match here.as_str() {
                "main" => panic!("first\nline {}", 1),
                "no thread" => panic!("failed to spawn thread: {:?}", std::io::Error::from_raw_os_error(11)),
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
        exit((0..=4).find(|n| ExitCode::from(*n) == code.report()).map_or(101, i32::from));
    }

    #[test]
    fn a_panic_is_one_line_and_an_exit_code() {
        for (place, exit, wanted) in [
            ("no thread", 3, "error[THREADS]: cannot start a thread: Os { code: 11,"),
            ("main", 4, "error[DEFECT]: first\\nline 1 (src/defect.rs:"),
            ("thread", 4, "error[DEFECT]: elsewhere (src/defect.rs:"),
            ("locked", 4, "error[DEFECT]: while stderr is locked (src/defect.rs:"),
            ("twice", 4, "error[DEFECT]: second (src/defect.rs:"),
        ] {
            let child = |stderr: Stdio| {
                let program = std::env::current_exe().unwrap();
                let args = ["--exact", "defect::tests::child_panics", "--ignored", "--nocapture"];
                let mut command = Command::new(program);
                command.args(args).env("TULU_QUANT_TEST_PANIC", place).stdout(Stdio::null()).stderr(stderr);
                command.spawn().unwrap().wait_with_output().unwrap()
            };
            let output = child(Stdio::piped());
            let said = String::from_utf8(output.stderr).unwrap();
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with(&format!("tulu-quant: {wanted}")), "{place}: {said}");
            assert_eq!(output.status.code(), Some(exit), "{place}");
            // With a closed stderr, the exit code is the same, and the process does not wait.
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            assert_eq!(child(writer.into()).status.code(), Some(exit), "{place}");
        }
    }
}

//! What becomes of a panic: one line `error[DEFECT]` and exit 4, never Rust's 101 and its backtrace; one about a thread that
//! the system would not start is the machine's, exit 3. The line is written past `stderr.rs`: a panic may come while a bar
//! or stderr itself is locked.

use crate::error::{Code, ErrorFormat, Exit, Failure};
use crate::platform::{TerminalState, exit_now, write_unlocked};
use crate::sanitize::one_line;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;

/// The thread whose panics unwind, so that files under way are removed.
static GUARDED: OnceLock<ThreadId> = OnceLock::new();
/// A panic is on its way out.
static UNWINDING: AtomicBool = AtomicBool::new(false);
/// What the first panic ends the program with.
static EXIT: OnceLock<Exit> = OnceLock::new();
/// What the standard library and others say when the system has no room for one more thread.
const NO_THREAD: &str = "failed to spawn thread: ";
/// How the terminal was before an editor took it.
static TERMINAL: OnceLock<TerminalState> = OnceLock::new();
/// How errors are written, once it is known.
static FORMAT: OnceLock<ErrorFormat> = OnceLock::new();

/// Runs `work`. A panic of this thread unwinds it and ends with exit 4. One of another thread ends the process at once:
/// others may wait for what that thread will never do. So does a second one.
pub(crate) fn guarded(work: impl FnOnce() -> ExitCode) -> ExitCode {
    let _ = GUARDED.set(std::thread::current().id());
    set_hook(Box::new(|panic| {
        let failure = failure(panic);
        say(&failure);
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

/// How the terminal is to be left when the process ends at once.
pub(crate) fn terminal(before: &TerminalState) {
    let _ = TERMINAL.set(before.clone());
}

/// How errors are written.
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

/// Writes the line with nothing that could be locked. What cannot be written is lost.
fn say(failure: &Failure) {
    let line = failure.line(FORMAT.get().copied().unwrap_or_default()) + "\n";
    write_unlocked(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::guarded;
    use std::process::{Command, ExitCode, Stdio, Termination as _, exit};

    /// Not a test of its own: what the test below runs as a process.
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
            // Nobody reads stderr: the same code, and no waiting.
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            assert_eq!(child(writer.into()).status.code(), Some(exit), "{place}");
        }
    }
}

//! `tulu-quant chat` with the bundled model, from a pipe and on a terminal.

use super::screen::Terminal;
use super::{run, tulu_quant};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Options with which the bundled model generates until its context is full, for tests that stop it.
pub(crate) const ENDLESS: [&str; 10] = ["--temp", "5", "--top-k", "0", "--top-p", "1", "-n", "-1", "-s", "2"];

/// Returns the folder in which the program stores the converted bundled model. All tests share it. The model is in it, so that
/// no chat waits for its conversion or prints a line about it.
pub(crate) fn model_cache() -> PathBuf {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    let folder = READY.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("model-cache");
        let output = run(tulu_quant().args(["chat", "-p", "Hello", "-n", "1"]).env("TULU_QUANT_CACHE", &folder), b"");
        assert!(output.status.success(), "{output:?}");
        folder
    });
    folder.clone()
}

/// Returns the program with the shared cache, on one thread: the model is so small that two threads would mostly wait
/// for each other.
pub(crate) fn with_model_cache(args: &[&str]) -> Command {
    let mut command = tulu_quant();
    command.args(args).env("TULU_QUANT_CACHE", model_cache()).env("TULU_QUANT_THREADS", "1");
    command
}

/// `chat` with the bundled model.
pub(crate) fn chat(args: &[&str]) -> Command {
    let mut command = with_model_cache(&["chat"]);
    command.args(args).env("TULU_QUANT_CONVERSATIONS", model_cache().join("kept"));
    command
}

/// Returns `chat` that runs in `folder`, stores its conversations there, and has no text editor.
pub(crate) fn chat_in(folder: &Path, args: &[&str]) -> Command {
    let mut command = chat(args);
    command.current_dir(folder).env("TULU_QUANT_CONVERSATIONS", folder.join("kept"));
    command.env_remove("VISUAL").env_remove("EDITOR");
    command
}

/// A conversation on a terminal of 30 lines and 100 columns, in a folder of its own.
pub(crate) fn on_terminal(args: &[&str]) -> (TempDir, Terminal) {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::chat(chat_in(folder.path(), args), 30, 100);
    (folder, terminal)
}

/// Leaves with Ctrl-D, asserts exit code 0, and returns the text that was printed in the meantime.
pub(crate) fn leave(mut terminal: Terminal) -> String {
    let mark = terminal.raw.len();
    terminal.keys("\x04");
    assert_eq!(terminal.ended(), 0);
    String::from_utf8_lossy(&terminal.raw[mark..]).into_owned()
}

/// Presses Ctrl-C twice on an empty line: asserts that the first prints a note and the second exits with 130.
pub(crate) fn leave_with_ctrl_c(mut terminal: Terminal) {
    let mark = terminal.raw.len();
    terminal.keys("\x03");
    terminal.text_after(mark, "press Ctrl-C again, Ctrl-D or /exit to quit");
    terminal.prompt_after(mark);
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
}

/// Returns a folder with its own home folder and cache. The cache has the model.
pub(crate) fn home() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cache", "home"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for entry in fs::read_dir(model_cache()).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|ending| ending == "gguf") {
            fs::copy(entry.path(), folder.path().join("cache").join(entry.file_name())).unwrap();
        }
    }
    folder
}

/// Returns `chat` in a folder of [`home`], at temperature 0 unless `args` set another.
pub(crate) fn chat_at(home: &TempDir, args: &[&str]) -> Command {
    let usual: &[&str] = if args.contains(&"--temp") { &[] } else { &["--temp", "0"] };
    let mut command = chat_in(home.path(), &[usual, args].concat());
    command.env("TULU_QUANT_CACHE", home.path().join("cache")).env("HOME", home.path().join("home"));
    command
}

/// [`chat_at`] on a terminal of 30 lines and 100 columns.
pub(crate) fn on_terminal_at(home: &TempDir, args: &[&str]) -> Terminal {
    Terminal::chat(chat_at(home, args), 30, 100)
}

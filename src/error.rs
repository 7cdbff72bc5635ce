//! Errors in the form that the user sees: one line `tulu-quant: error[CODE]: <file>: <what>; <what to do>` and an exit
//! code. Errors of libraries become a [`Failure`] here; only `main` prints it.

mod code;

pub(crate) use crate::exit::Exit;
pub(crate) use code::Code;

use crate::interrupt;
use crate::sanitize::{json_line, one_line};
use crate::stderr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The text of an interruption before the signal is known, in [`Failure::interrupted`] and in the library's errors.
const STOPPED: &str = "stopped";

/// The format of the error line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ErrorFormat {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Why a command failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The stable code: scripts match it.
    pub(crate) code: Code,
    /// The exit code of the process.
    pub(crate) exit: Exit,
    /// The file that is wrong, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The problem, with its byte offset, line or tensor.
    pub(crate) what: String,
    /// The next step for the user.
    pub(crate) fix: String,
}

impl Failure {
    /// Creates an error of the input or the flags: exit code 2.
    pub(crate) fn input(code: Code, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, exit: Exit::Input, file: None, what: what.into(), fix: fix.into() }
    }

    /// Creates a system error: exit code 3.
    pub(crate) fn machine(code: Code, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit: Exit::Machine, ..Self::input(code, what, fix) }
    }

    /// Creates an error of llama.cpp, or a defect of this program: exit code 4.
    pub(crate) fn engine(code: Code, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit: Exit::Engine, ..Self::input(code, what, fix) }
    }

    /// Creates the error of work that Ctrl-C or SIGTERM stopped: exit code 130 or 143.
    pub(crate) fn interrupted() -> Self {
        let exit = interrupt::asked().unwrap_or(Exit::Interrupted);
        Self { exit, ..Self::input(Code::Interrupted, STOPPED, "run it again") }
    }

    /// Returns the problem. For an interruption, adds the name of the signal that belongs to the exit code.
    fn what(&self) -> &str {
        match (self.what.as_str(), self.exit) {
            (STOPPED, Exit::Interrupted) => "stopped by Ctrl-C",
            (STOPPED, Exit::Terminated) => "stopped by SIGTERM",
            (what, _) => what,
        }
    }

    /// Creates an error of the operating system about `file`: exit code 2 when the path is wrong, else 3.
    pub(crate) fn io(file: &Path, doing: &str, err: &std::io::Error) -> Self {
        use std::io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
        let exit = match err.kind() {
            NotFound | NotADirectory | IsADirectory | InvalidInput => Exit::Input,
            _ => Exit::Machine,
        };
        let fix = if exit == Exit::Input { "check the path" } else { "check space and permissions, then run it again" };
        Self { exit, ..Self::input(Code::Io, format!("{doing}: {err}"), fix) }.at(file)
    }

    /// Sets the file that is wrong.
    #[must_use]
    pub(crate) fn at(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Returns the error line, without a line break.
    pub(crate) fn line(&self, format: ErrorFormat) -> String {
        match format {
            ErrorFormat::Text => self.to_string(),
            ErrorFormat::Json => json_line(&serde_json::json!({"error": {
                "code": self.code.as_str(),
                "file": self.file.as_ref().map(|f| f.display().to_string()),
                "message": self.what(),
                "hint": self.fix,
                "exit": self.exit as u8,
            }})),
        }
    }

    /// Prints the error line and returns the exit code.
    pub(crate) fn report(&self, format: ErrorFormat) -> ExitCode {
        stderr::line(&self.line(format));
        self.exit.into()
    }
}

impl From<interrupt::CannotInstall> for Failure {
    fn from(err: interrupt::CannotInstall) -> Self {
        Self::machine(Code::Signal, format!("cannot handle signals: {}", err.0), "report this")
    }
}

/// The library's errors have the same parts.
impl From<tulu_quantize::Error> for Failure {
    fn from(err: tulu_quantize::Error) -> Self {
        use tulu_quantize::Class;
        let exit = match err.code.class() {
            Class::Input => Exit::Input,
            Class::Machine => Exit::Machine,
            Class::Interrupted => interrupt::asked().unwrap_or(Exit::Interrupted),
            Class::Defect => Exit::Engine,
        };
        Self { code: err.code.into(), exit, file: Some(err.file), what: err.what, fix: err.fix }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tulu-quant: error[{}]: ", self.code)?;
        if let Some(file) = &self.file {
            write!(f, "{}: ", one_line(&file.display().to_string()))?;
        }
        write!(f, "{}; {}", one_line(self.what()), one_line(&self.fix))
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Exit, Failure};

    #[test]
    fn the_exit_code_knows_the_signal() {
        let by = |exit| Failure { exit, ..Failure::interrupted() }.to_string();
        assert_eq!(by(Exit::Interrupted), "tulu-quant: error[INTERRUPTED]: stopped by Ctrl-C; run it again");
        assert_eq!(by(Exit::Terminated), "tulu-quant: error[INTERRUPTED]: stopped by SIGTERM; run it again");
    }

    #[test]
    fn an_error_is_one_line_even_when_a_file_name_is_not() {
        let failure = Failure::input(Code::Usage, "bad\nthing", "fix it").at("a\u{1b}[31m\nb");
        assert_eq!(failure.to_string(), "tulu-quant: error[USAGE]: a\\u{1b}[31m\\nb: bad\\nthing; fix it");
        let reordered = Failure::input(Code::Usage, "thing", "fix it").at("gpj.\u{202e}exe\u{9b}m");
        assert_eq!(reordered.to_string(), "tulu-quant: error[USAGE]: gpj.\\u{202e}exe\\u{9b}m: thing; fix it");
    }
}

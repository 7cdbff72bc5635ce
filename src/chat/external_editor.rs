//! `/edit`: lets the user write a message in an editor.

use crate::error::{Code, Failure};
use crate::sanitize::one_line;
use std::io::{ErrorKind, Write as _};
use std::process::Command;

/// Opens the editor with `text`, and returns the saved text.
pub(super) fn edit(text: &str) -> Result<String, Failure> {
    let failed = |what: String| Failure::machine(Code::Editor, what, "set VISUAL or EDITOR to an editor");
    let mut named = ["VISUAL", "EDITOR"].into_iter().filter_map(std::env::var_os);
    let editor = named.find(|editor| !editor.as_encoded_bytes().trim_ascii().is_empty()).unwrap_or_else(|| "vi".into());
    let shown = one_line(&editor.to_string_lossy());
    let io = |err: std::io::Error| failed(format!("cannot keep the text for the editor: {err}"));
    let mut file = tempfile::Builder::new().prefix("tulu-quant-").suffix(".md").tempfile().map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    // The variable may contain flags and quotes, as in "code --wait". The shell parses them, as it does for git.
    let mut line = editor.clone();
    line.push(" \"$1\"");
    match Command::new("sh").arg("-c").arg(line).arg(&editor).arg(file.path()).status() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(failed(format!("the editor '{shown}' ended with {status}"))),
        Err(err) => return Err(failed(format!("cannot start the editor '{shown}': {err}"))),
    }
    // Open the file again by its name, because editors replace it by a new file.
    std::fs::read_to_string(file.path()).map_err(|err| match err.kind() {
        ErrorKind::InvalidData => {
            Failure::input(Code::Editor, "the editor did not save UTF-8 text", "save it as UTF-8")
        }
        _ => failed(format!("cannot read what the editor wrote: {err}")),
    })
}

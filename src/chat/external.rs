//! `/edit`: a message written in the user's own editor.

use crate::error::Failure;
use std::io::Write as _;
use std::process::Command;

/// Opens the editor on `text` and gives what it leaves.
pub(super) fn edit(text: &str) -> Result<String, Failure> {
    let failed = |what: String| Failure::machine("EDITOR", what, "set VISUAL or EDITOR to an editor");
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let editor = named.into_iter().find(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    let io = |err: std::io::Error| failed(format!("cannot keep the text for the editor: {err}"));
    let mut file = tempfile::Builder::new().prefix("tulu-quant-").suffix(".md").tempfile().map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    // The variable may hold flags and quotes, as in "code --wait": that is for the shell to read, as git does.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg(&editor).arg(file.path()).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(failed(format!("the editor '{editor}' ended with {status}"))),
        Err(err) => return Err(failed(format!("cannot start the editor '{editor}': {err}"))),
    }
    // By name: editors write a new file and put it in the place of the old one.
    std::fs::read_to_string(file.path()).map_err(|err| failed(format!("cannot read what the editor wrote: {err}")))
}

//! The verbs, and the option groups that several verbs share (declared once, flattened into each verb's `Args`).
//! What a verb does is in `commands/`; nothing here opens a file.

use crate::error::ErrorFormat;
use clap::{Parser, Subcommand};
use std::ffi::OsString;

/// The best way to run AllenAI's Tulu models on one's own machine: convert, chat, batch.
#[derive(Debug, Parser)]
#[command(name = "tulu-quant", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// How an error is written on the last line of stderr
    #[arg(long, global = true, value_enum, default_value_t, env = "TULU_QUANT_ERROR_FORMAT")]
    pub(crate) error_format: ErrorFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One variant a verb; the fields are in the verb's own file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Prompt(crate::commands::prompt::Args),
}

/// llama.cpp's users write `-ngl 20` and `-ctk q8_0`; clap knows only one letter after one dash. The long twins exist, so
/// the multi-letter short forms are rewritten to them before clap sees the line.
pub(crate) fn normalise(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const TWINS: &[(&str, &str)] = &[
        ("-ngl", "--gpu-layers"),
        ("-fa", "--flash-attn"),
        ("-ctk", "--cache-type-k"),
        ("-ctv", "--cache-type-v"),
        ("-np", "--parallel"),
        ("-npl", "--parallel-list"),
        ("-sys", "--system"),
    ];
    let mut literal = false;
    args.into_iter()
        .map(|arg| {
            literal |= arg == "--";
            let twin = arg.to_str().filter(|_| !literal).and_then(|text| {
                let (head, value) = text.split_once('=').map_or((text, None), |(h, v)| (h, Some(v)));
                let (_, long) = TWINS.iter().find(|(short, _)| *short == head)?;
                Some(value.map_or_else(|| (*long).to_owned(), |v| format!("{long}={v}")))
            });
            twin.map_or(arg, OsString::from)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn short_forms_of_several_letters_become_their_long_twins() {
        let line = ["tulu-quant", "chat", "-ngl", "20", "-ctk=q8_0", "-n", "5", "--", "-ngl"];
        let got = normalise(line.map(Into::into));
        assert_eq!(got, ["tulu-quant", "chat", "--gpu-layers", "20", "--cache-type-k=q8_0", "-n", "5", "--", "-ngl"]);
    }
}

//! Rewrites flags of other programs to ours before clap parses the line. llama.cpp's short flags of several letters
//! (`-ngl 20`) become long flags, because clap cannot define them. The model of `-m FILE` or `-hf OWNER/NAME` becomes a
//! positional argument. Values of flags are not rewritten; clap's definitions show which flags take a value.

use crate::error::{Code, Failure};
use clap::{Arg, Command};
use std::ffi::OsString;

/// Short flags of several letters, and their long forms.
const SHORT_FLAGS: [(&str, &str); 13] = [
    ("-ngl", "gpu-layers"),
    ("-dev", "device"),
    ("-sm", "split-mode"),
    ("-ts", "tensor-split"),
    ("-mg", "main-gpu"),
    ("-nkvo", "no-kv-offload"),
    ("-fa", "flash-attn"),
    ("-ctk", "cache-type-k"),
    ("-ctv", "cache-type-v"),
    ("-np", "parallel"),
    ("-npl", "parallel-list"),
    ("-sys", "system"),
    ("-md", "draft"),
];
/// Flags of other programs that name the model. Here the model is the first positional argument.
const MODEL_FLAGS: [&str; 5] = ["-m", "--model", "-hf", "-hfr", "--hf-repo"];
/// Names of first positional arguments that are models.
const MODEL_POSITIONALS: [&str; 3] = ["model", "source", "file"];

/// Returns the line in the form that clap parses.
///
/// # Errors
/// `USAGE` for a known short flag that the subcommand does not have.
pub(super) fn normalise(args: impl IntoIterator<Item = OsString>, whole: &Command) -> Result<Vec<OsString>, Failure> {
    let mut args = args.into_iter();
    let mut line = Rewriter { out: args.next().into_iter().collect(), whole, subcommand: None, model: None };
    while let Some(arg) = args.next() {
        if arg == "--" {
            line.out.push(arg);
            line.out.extend(args);
            break;
        }
        match line.take(arg)? {
            NextArgument::Any => {}
            NextArgument::Value => line.out.extend(args.next()),
            NextArgument::Model => line.model = args.next(),
        }
    }
    Ok(line.finish())
}

/// The meaning of the next argument.
enum NextArgument {
    /// Any argument.
    Any,
    /// The value of the flag before it.
    Value,
    /// The model.
    Model,
}

struct Rewriter<'c> {
    out: Vec<OsString>,
    whole: &'c Command,
    /// The subcommand, and the index in `out` of the next argument.
    subcommand: Option<(&'c Command, usize)>,
    model: Option<OsString>,
}

impl<'c> Rewriter<'c> {
    fn take(&mut self, arg: OsString) -> Result<NextArgument, Failure> {
        let Some(text) = arg.to_str() else {
            self.out.push(arg);
            return Ok(NextArgument::Any);
        };
        let (head, value) = text.split_once('=').map_or((text, None), |(head, value)| (head, Some(value)));
        if MODEL_FLAGS.contains(&head) && self.names_a_model() && self.flag(head).is_none() {
            self.model = value.map(OsString::from);
            return Ok(if value.is_some() { NextArgument::Any } else { NextArgument::Model });
        }
        if let (Some((_, long)), Some((subcommand, _))) =
            (SHORT_FLAGS.iter().find(|(short, _)| *short == head), self.subcommand)
        {
            let Some(flag) = self.long(long) else {
                let fix = format!("see `tulu-quant {} --help`", subcommand.get_name());
                return Err(Failure::input(
                    Code::Usage,
                    format!("{} has no {head} (--{long})", subcommand.get_name()),
                    fix,
                ));
            };
            let next = next_after(flag, value.is_none());
            self.out.push(value.map_or_else(|| format!("--{long}"), |value| format!("--{long}={value}")).into());
            return Ok(next);
        }
        let next = match self.flag(head) {
            Some(flag) => next_after(flag, value.is_none()),
            None if text.starts_with('-') && !text.starts_with("--") => self.cluster(text),
            None => {
                let inner = self.subcommand.map_or(self.whole, |(subcommand, _)| subcommand);
                if let Some(subcommand) = inner.find_subcommand(text).filter(|_| self.at_subcommand()) {
                    self.subcommand = Some((subcommand, self.out.len() + 1));
                }
                NextArgument::Any
            }
        };
        self.out.push(arg);
        Ok(next)
    }

    /// Reads joined short flags, such as `-yn 5`: the last one may take a value.
    fn cluster(&self, text: &str) -> NextArgument {
        let mut letters = text.chars().skip(1);
        while let Some(letter) = letters.next() {
            match self.short(letter) {
                Some(flag) if flag.get_action().takes_values() => return next_after(flag, letters.next().is_none()),
                Some(_) => {}
                None => break,
            }
        }
        NextArgument::Any
    }

    /// Returns whether a word at this position would be a subcommand.
    fn at_subcommand(&self) -> bool {
        self.subcommand.is_none_or(|(_, from)| self.out.len() == from)
    }

    fn names_a_model(&self) -> bool {
        let first = self.subcommand.and_then(|(subcommand, _)| subcommand.get_positionals().next());
        first.is_some_and(|first| MODEL_POSITIONALS.contains(&first.get_id().as_str()))
    }

    /// Returns the flag with the spelling `head`, such as `--temp` or `-c`.
    fn flag(&self, head: &str) -> Option<&'c Arg> {
        match (head.strip_prefix("--"), head.strip_prefix('-')) {
            (Some(long), _) => self.long(long),
            (None, Some(short)) if short.chars().count() == 1 => self.short(short.chars().next()?),
            _ => None,
        }
    }

    fn long(&self, long: &str) -> Option<&'c Arg> {
        self.flags().find(|flag| {
            flag.get_long() == Some(long) || flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        })
    }

    fn short(&self, short: char) -> Option<&'c Arg> {
        self.flags().find(|flag| flag.get_short() == Some(short))
    }

    fn flags(&self) -> impl Iterator<Item = &'c Arg> + use<'c> {
        self.subcommand
            .into_iter()
            .flat_map(|(subcommand, _)| subcommand.get_arguments())
            .chain(self.whole.get_arguments())
    }

    fn finish(mut self) -> Vec<OsString> {
        if let (Some(model), Some((_, at))) = (self.model, self.subcommand) {
            self.out.insert(at, model);
        }
        self.out
    }
}

fn next_after(flag: &Arg, alone: bool) -> NextArgument {
    if alone && flag.get_action().takes_values() { NextArgument::Value } else { NextArgument::Any }
}

#[cfg(test)]
mod tests {
    use super::normalise;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn flags_of_other_programs_are_rewritten_and_values_are_not() {
        for (typed, ours) in [
            ("chat -ngl 20 -ctk=q8_0 -n 5 -- -ngl", "chat --gpu-layers 20 --cache-type-k=q8_0 -n 5 -- -ngl"),
            ("chat -ngl all -dev CUDA0,CUDA1 -ts 3,1", "chat --gpu-layers all --device CUDA0,CUDA1 --tensor-split 3,1"),
            ("serve a -sm=none -mg 1 -nkvo", "serve a --split-mode=none --main-gpu 1 --no-kv-offload"),
            ("chat -p -np", "chat -p -np"),
            ("chat --prompt -m -m a.gguf", "chat a.gguf --prompt -m"),
            ("chat -p hi -m a.gguf", "chat a.gguf -p hi"),
            ("chat --model=a.gguf -p hi", "chat a.gguf -p hi"),
            ("chat -hf me/mine:Q4_K_M", "chat me/mine:Q4_K_M"),
            ("chat -yp -ngl", "chat -yp -ngl"),
            ("chat -p-ngl", "chat -p-ngl"),
            ("--error-format json chat -fa on", "--error-format json chat --flash-attn on"),
            ("--error-format chat batch -m a -np 4 -i b", "--error-format chat batch a --parallel 4 -i b"),
            ("batch merge -o -np a", "batch merge -o -np a"),
            ("bench -m a -p -ngl -ngl 1", "bench a -p -ngl --gpu-layers 1"),
            ("chat a chat -sys b", "chat a chat --system b"),
            ("completions -m", "completions -m"),
        ] {
            let line = std::iter::once("tulu-quant").chain(typed.split(' ')).map(Into::into);
            let got = normalise(line, &Cli::command()).unwrap();
            let got: Vec<_> = got.iter().skip(1).map(|arg| arg.to_str().unwrap()).collect();
            assert_eq!(got.join(" "), ours);
        }
        for (line, what) in [
            (["tulu-quant", "chat", "-np", "4"], "chat has no -np (--parallel)"),
            (["tulu-quant", "chat", "-npl", "1,2"], "chat has no -npl (--parallel-list)"),
        ] {
            assert_eq!(normalise(line.map(Into::into), &Cli::command()).unwrap_err().what, what);
        }
    }
}

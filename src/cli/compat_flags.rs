//! Flags as users of other programs write them, rewritten to ours before clap sees the line. clap knows only one letter
//! after one dash; llama.cpp's users write `-ngl 20`, and `-m FILE` or `-hf OWNER/NAME` for what stands first here. Values
//! of flags stay as they are: the definitions say which flags take one.

use crate::error::{Code, Failure};
use clap::{Arg, Command};
use std::ffi::OsString;

/// Short forms of several letters and their long twins.
const TWINS: [(&str, &str); 7] = [
    ("-ngl", "gpu-layers"),
    ("-fa", "flash-attn"),
    ("-ctk", "cache-type-k"),
    ("-ctv", "cache-type-v"),
    ("-np", "parallel"),
    ("-npl", "parallel-list"),
    ("-sys", "system"),
];
/// What names the model elsewhere; here it is the first word behind the verb.
const MODEL: [&str; 5] = ["-m", "--model", "-hf", "-hfr", "--hf-repo"];
/// Verbs' first words that a model can be.
const POSITIONS: [&str; 3] = ["model", "source", "file"];

/// The line as clap understands it.
pub(super) fn normalise(args: impl IntoIterator<Item = OsString>, whole: &Command) -> Result<Vec<OsString>, Failure> {
    let mut args = args.into_iter();
    let mut line = Line { out: args.next().into_iter().collect(), whole, verb: None, model: None };
    while let Some(arg) = args.next() {
        if arg == "--" {
            line.out.push(arg);
            line.out.extend(args);
            break;
        }
        match line.take(arg)? {
            Wants::Nothing => {}
            Wants::Value => line.out.extend(args.next()),
            Wants::Model => line.model = args.next(),
        }
    }
    Ok(line.finish())
}

/// What the next argument is.
enum Wants {
    /// An argument like others.
    Nothing,
    /// The value of the flag before it.
    Value,
    /// The value of a flag that names the model.
    Model,
}

struct Line<'c> {
    out: Vec<OsString>,
    whole: &'c Command,
    /// The verb, and where what follows it begins in `out`.
    verb: Option<(&'c Command, usize)>,
    model: Option<OsString>,
}

impl<'c> Line<'c> {
    fn take(&mut self, arg: OsString) -> Result<Wants, Failure> {
        let Some(text) = arg.to_str() else {
            self.out.push(arg);
            return Ok(Wants::Nothing);
        };
        let (head, value) = text.split_once('=').map_or((text, None), |(head, value)| (head, Some(value)));
        if MODEL.contains(&head) && self.names_a_model() && self.flag(head).is_none() {
            self.model = value.map(OsString::from);
            return Ok(if value.is_some() { Wants::Nothing } else { Wants::Model });
        }
        if let (Some((_, long)), Some((verb, _))) = (TWINS.iter().find(|(short, _)| *short == head), self.verb) {
            let Some(flag) = self.long(long) else {
                let fix = format!("see `tulu-quant {} --help`", verb.get_name());
                return Err(Failure::input(Code::Usage, format!("{} has no {head} (--{long})", verb.get_name()), fix));
            };
            let wants = wants(flag, value.is_none());
            self.out.push(value.map_or_else(|| format!("--{long}"), |value| format!("--{long}={value}")).into());
            return Ok(wants);
        }
        let wants = match self.flag(head) {
            Some(flag) => wants(flag, value.is_none()),
            None if text.starts_with('-') && !text.starts_with("--") => self.cluster(text),
            None => {
                let inner = self.verb.map_or(self.whole, |(verb, _)| verb);
                if let Some(verb) = inner.find_subcommand(text).filter(|_| self.at_verb()) {
                    self.verb = Some((verb, self.out.len() + 1));
                }
                Wants::Nothing
            }
        };
        self.out.push(arg);
        Ok(wants)
    }

    /// `-yn 5`: the last of several short flags may take a value.
    fn cluster(&self, text: &str) -> Wants {
        let mut letters = text.chars().skip(1);
        while let Some(letter) = letters.next() {
            match self.short(letter) {
                Some(flag) if flag.get_action().takes_values() => return wants(flag, letters.next().is_none()),
                Some(_) => {}
                None => break,
            }
        }
        Wants::Nothing
    }

    /// Whether a word here would be a verb: nothing but flags stands before it.
    fn at_verb(&self) -> bool {
        self.verb.is_none_or(|(_, from)| self.out.len() == from)
    }

    fn names_a_model(&self) -> bool {
        let first = self.verb.and_then(|(verb, _)| verb.get_positionals().next());
        first.is_some_and(|first| POSITIONS.contains(&first.get_id().as_str()))
    }

    /// The flag that is written `head`.
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
        self.verb.into_iter().flat_map(|(verb, _)| verb.get_arguments()).chain(self.whole.get_arguments())
    }

    fn finish(mut self) -> Vec<OsString> {
        if let (Some(model), Some((_, at))) = (self.model, self.verb) {
            self.out.insert(at, model);
        }
        self.out
    }
}

fn wants(flag: &Arg, alone: bool) -> Wants {
    if alone && flag.get_action().takes_values() { Wants::Value } else { Wants::Nothing }
}

#[cfg(test)]
mod tests {
    use super::normalise;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn flags_of_neighbours_become_ours_and_values_stay() {
        for (typed, ours) in [
            ("chat -ngl 20 -ctk=q8_0 -n 5 -- -ngl", "chat --gpu-layers 20 --cache-type-k=q8_0 -n 5 -- -ngl"),
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
            (["tulu-quant", "bench", "-npl", "1,2"], "bench has no -npl (--parallel-list)"),
        ] {
            assert_eq!(normalise(line.map(Into::into), &Cli::command()).unwrap_err().what, what);
        }
    }
}

//! `prompt`: prints the exact prompt of conversations, as text or token ids. Only the vocabulary of the model is
//! loaded.

use crate::engine::{Bos, VocabFile};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model;
use crate::options::HubArgs;
use crate::prompt::{Prompt, Prompts, conversations};
use crate::stderr;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Show the exact prompt text of conversations, or its token ids
///
/// Prints the text of one conversation to stdout byte for byte, without a newline at the end. Several conversations need
/// --json or --tokens, which print one line per conversation.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant prompt tulu-2-13b-Q4_K_M.gguf -i conversation.json\n  \
    tulu-quant prompt tulu-2-13b-Q4_K_M.gguf -i conversations.jsonl --json\n  \
    tulu-quant prompt tulu-2-13b-Q4_K_M.gguf -i - --tokens < conversation.json")]
pub(crate) struct Args {
    /// A short name, Hub id, folder or .gguf file
    #[arg(env = "TULU_QUANT_MODEL")]
    model: OsString,
    /// Read a JSON array of messages ({"role", "content"}), or one such array per line; - reads stdin
    #[arg(short, long, value_name = "FILE", env = "TULU_QUANT_INPUT")]
    input: PathBuf,
    /// Print token ids instead of text: one line per conversation, with the BOS that the model gets
    #[arg(long, env = "TULU_QUANT_TOKENS")]
    tokens: bool,
    /// Print one line {"text": …, "ids": […]} per conversation, BOS included
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    /// Omit the generation prompt (the <|assistant|> tag at the end)
    #[arg(long, env = "TULU_QUANT_NO_GENERATION_PROMPT")]
    no_generation_prompt: bool,
    /// Begin prompts with BOS: as the model's file says, always, or only where the chat template writes it
    #[arg(long, value_enum, default_value_t, env = "TULU_QUANT_BOS")]
    bos: Bos,
    #[command(flatten)]
    hub: HubArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let input = open(&args.input)?;
    let path = model::resolve(Some(&args.model), &args.hub.options(), &Interrupt::install()?)?;
    let model = VocabFile::open(&path, args.bos)?;
    let template = model.chat_template();
    let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(&path))?;
    // A failed write to stdout is not an error about the input file.
    show(args, input, &prompts)
        .map_err(|failure| if failure.code == Code::Stdout { failure } else { failure.at(&args.input) })
}

fn show(args: &Args, input: impl Read, prompts: &Prompts<'_>) -> Result<Exit, Failure> {
    let mut conversations = conversations(input).peekable();
    let text_only = !args.json && !args.tokens;
    let (mut seen, mut noticed) = (0_u64, false);
    while let Some(conversation) = conversations.next() {
        seen += 1;
        let prompt = conversation
            .and_then(|messages| prompts.render(&messages, !args.no_generation_prompt))
            .map_err(|failure| Failure { what: format!("conversation {seen}: {}", failure.what), ..failure })?;
        if text_only && conversations.peek().is_some() {
            let what = "contains several conversations; plain text output supports only one";
            return Err(Failure::input(Code::Several, what, "use --json or --tokens"));
        }
        if let (Some(notice), false) = (prompt.notice, noticed) {
            stderr::note(notice);
            noticed = true;
        }
        crate::stdout::print(&form(args, prompt))?;
    }
    if seen == 0 {
        return Err(Failure::input(Code::Empty, "contains no conversation", "give a JSON array of messages"));
    }
    Ok(Exit::Done)
}

/// Returns the text to print for one conversation.
fn form(args: &Args, prompt: Prompt) -> String {
    let ids = prompt.ids.iter().map(|id| id.0);
    if args.json {
        format!("{}\n", serde_json::json!({"text": prompt.text, "ids": ids.collect::<Vec<_>>()}))
    } else if args.tokens {
        ids.map(|id| id.to_string()).collect::<Vec<_>>().join(" ") + "\n"
    } else {
        prompt.text
    }
}

/// Opens the input and skips a UTF-8 byte order mark.
///
/// # Errors
/// `ENCODING` for UTF-16.
fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    let mut input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(|err| Failure::io(path, "cannot open", &err))?))
    };
    let begin = input.fill_buf().map_err(|err| Failure::io(path, "cannot read", &err))?;
    if begin.starts_with(&[0xff, 0xfe]) || begin.starts_with(&[0xfe, 0xff]) {
        return Err(Failure::input(Code::Encoding, "is in UTF-16", "save it as UTF-8").at(path));
    }
    if begin.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    Ok(Box::new(input))
}

//! `chat`: an interactive conversation, or answers to prompts given by flags or stdin. The conversation itself is in
//! `chat/`.

use super::{devices, load_model};
use crate::chat::{AnswerWriter, Conversation, Habits, Overflow, Parameters, Saved, run_interactive};
use crate::decode::{Answer, FinishReason};
use crate::engine::Sampling;
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model::model_ref;
use crate::options::{DraftArgs, EngineArgs, HubArgs, SamplingArgs, StructureArgs};
use crate::stderr;
use crate::table::count;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Maximum tokens to generate without -n: the model card's own example.
const PREDICT: u32 = 256;

/// Time without input on stdin after which a note is printed.
const STDIN_NOTE_DELAY: Duration = Duration::from_secs(2);

/// Chat with a model
///
/// On a terminal and without -p, starts an interactive conversation; /help lists its commands. With -p, or with text piped
/// in, prints one answer to stdout. With both, the piped text follows the text of -p. Several -p are the turns of one
/// conversation. An interactive conversation keeps what you type for the arrow keys (chat_history in the cache folder, but
/// no line that begins with a space) and, if you leave without /save, the conversation (last.json); --no-history keeps
/// neither.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant chat\n  tulu-quant chat tulu-2-13b-Q4_K_M.gguf\n  \
    tulu-quant chat tulu-2-13b-Q4_K_M.gguf -p 'Summarise this:' < article.txt\n  \
    tulu-quant chat -p 'What is the capital of France?' -p 'And of Italy?' --temp 0\n  \
    tulu-quant chat tulu-2-13b-Q4_K_M.gguf 'What is the capital of France?'\n  \
    tulu-quant chat tulu-2-13b-Q4_K_M.gguf -f question.txt\n  \
    tulu-quant chat --load travel -p 'And on the second day?'\n  tulu-quant chat --continue")]
pub(crate) struct Args {
    /// A short name, Hub id, checkpoint folder or .gguf file; without it, the small demonstration model in the program
    #[arg(env = "TULU_QUANT_MODEL")]
    model: Option<OsString>,
    /// Prompt, as with -p
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
    /// Answer this prompt and exit; repeat it for the next turns of the same conversation
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, env = "TULU_QUANT_PROMPT")]
    prompt: Vec<String>,
    /// Answer the text of this file and exit; it is appended to the text of -p
    #[arg(short, long, value_name = "FILE", env = "TULU_QUANT_FILE")]
    file: Option<PathBuf>,
    /// Set the system message (-sys); `tulu3` stands for that of Ai2's demonstration of Tulu 3. By default there is none
    #[arg(long, alias = "system-prompt", value_name = "TEXT", allow_hyphen_values = true, env = "TULU_QUANT_SYSTEM")]
    system: Option<String>,
    /// Resume a conversation saved with /save, by its name or file; without MODEL, with the model it was saved with
    #[arg(long, visible_alias = "resume", value_name = "NAME|FILE", env = "TULU_QUANT_LOAD")]
    load: Option<String>,
    /// Resume the newest conversation: saved with /save, or kept when you left without it
    #[arg(long = "continue", conflicts_with = "load", env = "TULU_QUANT_CONTINUE")]
    continue_last: bool,
    /// Keep neither what you type for the arrow keys nor a conversation that you leave without /save
    #[arg(long, env = "TULU_QUANT_NO_HISTORY")]
    no_history: bool,
    /// Choose what happens when the conversation does not fit into the context: fail, or drop whole turns, the oldest first
    /// (the system message is kept; a note says what was dropped) [default: drop-oldest on a terminal, error with -p]
    #[arg(long, value_enum, value_name = "WHAT", env = "TULU_QUANT_ON_OVERFLOW")]
    on_overflow: Option<Overflow>,
    /// Show tokens and speed after every answer on a terminal
    #[arg(long, env = "TULU_QUANT_VERBOSE")]
    verbose: bool,
    /// Print each answer as a JSON object with its token counts and speeds
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    /// Stop an answer before this text, in addition to Tulu's own markers; repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, env = "TULU_QUANT_STOP")]
    stop: Vec<String>,
    #[command(flatten)]
    structure: StructureArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Subtract X from the logits of tokens that are in the answer [default: 0]
    #[arg(long, value_name = "X", help_heading = "Sampling", env = "TULU_QUANT_PRESENCE_PENALTY")]
    presence_penalty: Option<f32>,
    /// Subtract X from the logits of tokens for each time that they are in the answer [default: 0]
    #[arg(long, value_name = "X", help_heading = "Sampling", env = "TULU_QUANT_FREQUENCY_PENALTY")]
    frequency_penalty: Option<f32>,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    drafts: DraftArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = args.engine.settings()?;
    if args.engine.list_devices {
        return devices::list(args.model.as_deref(), &settings, 1);
    }
    let load = args.load.as_deref().map(crate::chat::path_of).transpose()?;
    let load = if args.continue_last { Some(crate::chat::newest()?) } else { load };
    let saved = load.map(|file| Saved::read(&file).map(|saved| (file, saved))).transpose()?;
    let parameters = parameters(args, saved.as_ref().map(|(_, saved)| &saved.parameters))?;
    if saved.is_some() && args.system.is_some() {
        let what = "--system cannot be combined with --load or --continue";
        return Err(Failure::input(
            Code::Usage,
            what,
            "leave --system out; /system changes the system message in the conversation",
        ));
    }
    // A missing model is reported before the prompt is read.
    if let Some(model) = &args.model {
        model_ref::parse(model).map_err(|failure| hint_prompt(failure, &model.to_string_lossy()))?;
    }
    let grammar = args.structure.grammar()?;
    let turns = turns(args)?;
    if args.json && turns.is_empty() {
        return Err(Failure::input(Code::Usage, "--json needs a prompt", "give -p TEXT, or pipe the text in"));
    }
    let interrupt = Interrupt::install()?;
    let model = args.model.as_deref().or(saved.as_ref().map(|(_, saved)| saved.model.as_os_str()));
    let path = load_model::resolve(model, &settings, &args.hub, &interrupt)?;
    let (second, settings) = load_model::resolve_second(&args.drafts, settings, &args.hub, &interrupt)?;
    let model = load_model::model(&path, settings, Some(1), &interrupt)?;
    let second = second.map(|path| load_model::second(&path, &model, &interrupt)).transpose()?;
    let seed = parameters.sampling.seed;
    let overflow = if turns.is_empty() { Overflow::DropOldest } else { Overflow::Error };
    let overflow = args.on_overflow.unwrap_or(overflow);
    let mut chat = Conversation::new(
        &model,
        args.system.as_deref(),
        parameters.clone(),
        overflow,
        args.drafts.drafts(second.as_ref()),
        interrupt,
    )?;
    chat.set_grammar(grammar);
    let mut out = AnswerWriter::new(args.json);
    if turns.is_empty() {
        let habits = Habits { verbose: args.verbose, history: !args.no_history };
        return run_interactive(&mut chat, saved, parameters, habits, &mut out);
    }
    if let Some((file, saved)) = saved {
        let restored = chat.restore(saved, parameters)?;
        restored.warn(&file);
    }
    for turn in turns {
        let (answer, exit) = chat.answer_once(turn, &mut out)?;
        if args.json {
            AnswerWriter::new(false).write(&format!("{}\n", json(&answer, seed, &path)))?;
        } else {
            out.end_line()?;
        }
        if exit != Exit::Done {
            return Ok(exit);
        }
        if answer.reason == FinishReason::Length && !args.json {
            let tokens = count(answer.usage.completion_tokens, "token", "tokens");
            let incomplete = if args.structure.is_given() { " and is incomplete" } else { "" };
            stderr::note(&format!("the answer was cut off after {tokens}{incomplete}; give a larger -n"));
        }
    }
    Ok(Exit::Done)
}

/// Adds a hint to the failure if MODEL looks like a question: other programs take a prompt in this position.
fn hint_prompt(failure: Failure, model: &str) -> Failure {
    if failure.code != Code::NotFound || !model.trim().contains(char::is_whitespace) {
        return failure;
    }
    Failure { fix: "MODEL comes first; to ask the demonstration model this, give it with -p".to_owned(), ..failure }
}

/// Validates the parsed flags. Without a flag, the value is that of the saved conversation, or that of the model card's
/// example.
fn parameters(args: &Args, saved: Option<&Parameters>) -> Result<Parameters, Failure> {
    let mut default = saved.map_or_else(Sampling::model_card_defaults, |saved| saved.sampling.clone());
    default.presence_penalty = args.presence_penalty.unwrap_or(default.presence_penalty);
    default.frequency_penalty = args.frequency_penalty.unwrap_or(default.frequency_penalty);
    let mut stop = saved.map(|saved| saved.stop.clone()).unwrap_or_default();
    if args.stop.iter().any(String::is_empty) {
        return Err(Failure::input(Code::Sampling, "--stop has no text", "give the text that ends an answer"));
    }
    stop.extend(args.stop.clone());
    Ok(Parameters {
        sampling: args.sampling.sampling(default)?,
        max_tokens: args.sampling.max_tokens(saved.map_or(PREDICT, |saved| saved.max_tokens))?,
        stop,
    })
}

/// Collects the prompts: the texts of -p and after MODEL. The text of -f and the piped text are appended to the last
/// one. Without any prompt, the conversation is interactive.
fn turns(args: &Args) -> Result<Vec<String>, Failure> {
    let mut turns = args.prompt.clone();
    if !args.text.is_empty() {
        turns.push(args.text.join(" "));
    }
    // `-f -` means the piped text, which is read below.
    if let Some(file) = args.file.as_deref().filter(|file| *file != Path::new("-")) {
        let bytes = std::fs::read(file).map_err(|err| Failure::io(file, "cannot read", &err))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(Code::Prompt, "is not UTF-8 text", "convert it to UTF-8").at(file))?;
        append(&mut turns, &text);
    }
    if !std::io::stdin().is_terminal() {
        let piped = piped(!turns.is_empty())?;
        if turns.is_empty() || !piped.trim().is_empty() {
            append(&mut turns, &piped);
        }
    } else if args.file.as_deref() == Some(Path::new("-")) {
        return Err(Failure::input(Code::Prompt, "-f - reads stdin, and no text is piped in", "pipe the text in"));
    }
    match turns.iter().find(|text| text.trim().is_empty()) {
        Some(_) => Err(Failure::input(Code::Prompt, "the prompt is empty", "give -p TEXT, or pipe the text in")),
        None => Ok(turns),
    }
}

/// Appends `text` to the last turn, or adds it as the first turn.
fn append(turns: &mut Vec<String>, text: &str) {
    let text = text.trim_end_matches(['\r', '\n']);
    match turns.last_mut() {
        Some(last) => *last = format!("{last}\n\n{text}"),
        None => turns.push(text.to_owned()),
    }
}

/// Reads the piped text. With `has_prompt`, prints a note after a while, because the program waits for stdin.
fn piped(has_prompt: bool) -> Result<String, Failure> {
    let (ended, end) = mpsc::channel::<()>();
    // If the parent program leaves stdin open, -p seems to hang. If no thread can be started, there is no note.
    let _ = std::thread::Builder::new().spawn(move || {
        if has_prompt && end.recv_timeout(STDIN_NOTE_DELAY) == Err(mpsc::RecvTimeoutError::Timeout) {
            stderr::note("waiting for the end of input on stdin; redirect it from /dev/null if there is none");
        }
    });
    let mut piped = String::new();
    std::io::stdin().lock().read_to_string(&mut piped).map_err(|err| match err.kind() {
        ErrorKind::InvalidData => Failure::input(Code::Prompt, "the text piped in is not UTF-8", "convert it to UTF-8"),
        _ => Failure::io(Path::new("stdin"), "cannot read", &err),
    })?;
    drop(ended);
    Ok(piped)
}

fn json(answer: &Answer, seed: u32, model: &Path) -> serde_json::Value {
    let usage = &answer.usage;
    serde_json::json!({
        "model": model.display().to_string(),
        "text": answer.text,
        "finish_reason": match answer.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Interrupted => "interrupted",
        },
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
        },
        "timings": {
            "prompt_seconds": usage.prefill.as_secs_f64(),
            "prompt_per_second": usage.prefill_speed(),
            "predicted_seconds": usage.generation.as_secs_f64(),
            "predicted_per_second": usage.generation_speed(),
        },
        "drafts": usage.drafts.json(),
        "seed": seed,
    })
}

//! `tulu-quant chat`: talk to a model, or have one prompt answered.

use super::load;
use crate::chat::{Chat, Output, Overflow, Parameters, Saved};
use crate::cli::{EngineArgs, HubArgs, SamplingArgs};
use crate::decode::{Answer, Reason};
use crate::engine::Sampling;
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::stderr;
use std::io::{ErrorKind, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Tokens of an answer when -n is not given: the model card's own example.
const PREDICT: u32 = 256;

/// How long stdin may be silent before the user is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Chat with a model
///
/// Without -p and with a terminal: an interactive conversation; /help lists its commands. With -p, or with text piped in:
/// one answer on stdout. With both, the piped text follows the text of -p. Several -p are the turns of one conversation.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant chat\n  tulu-quant chat tulu-2-13b-Q4_K_M.gguf\n  \
    tulu-quant chat tulu-2-13b-Q4_K_M.gguf -p 'Summarise this:' < article.txt\n  \
    tulu-quant chat -p 'What is the capital of France?' -p 'And of Italy?' --temp 0\n  \
    tulu-quant chat --load travel -p 'And on the second day?'")]
pub(crate) struct Args {
    /// A short name, Hub id, checkpoint folder or .gguf file; without it, the small demonstration model in the program
    #[arg(env = "TULU_QUANT_MODEL")]
    model: Option<String>,
    /// Answer this and exit; given again, it is the next turn of the same conversation
    #[arg(short, long, value_name = "TEXT", env = "TULU_QUANT_PROMPT")]
    prompt: Vec<String>,
    /// Instructions before the conversation (-sys)
    #[arg(long, value_name = "TEXT", env = "TULU_QUANT_SYSTEM")]
    system: Option<String>,
    /// Go on with a conversation that /save kept, by its name or file; without MODEL, with the model it was saved with
    #[arg(long, visible_alias = "resume", value_name = "NAME|FILE", env = "TULU_QUANT_LOAD")]
    load: Option<String>,
    /// When the conversation outgrows the window: refuse, or leave out whole turns, the oldest first (the system message
    /// stays, and it is said) [default: drop-oldest on a terminal, error with -p]
    #[arg(long, value_enum, value_name = "WHAT", env = "TULU_QUANT_ON_OVERFLOW")]
    on_overflow: Option<Overflow>,
    /// Show tokens and speed after every answer on a terminal
    #[arg(long, env = "TULU_QUANT_VERBOSE")]
    verbose: bool,
    /// Write each answer as a JSON object with its token counts and speeds
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = args.engine.settings()?;
    let saved = args.load.as_deref().map(saved).transpose()?;
    let parameters = parameters(args, saved.as_ref().map(|(_, saved)| &saved.parameters))?;
    let turns = turns(&args.prompt)?;
    if args.json && turns.is_empty() {
        return Err(Failure::input("USAGE", "--json is for answers to -p", "give -p TEXT, or pipe the text in"));
    }
    if saved.is_some() && args.system.is_some() {
        let what = "--load brings its own system message";
        return Err(Failure::input("USAGE", what, "leave --system out; /system changes it in the conversation"));
    }
    let interrupt = Interrupt::install()?;
    let model = args.model.as_deref().or(saved.as_ref().and_then(|(_, saved)| saved.model.to_str()));
    let path = load::resolve(model, &settings, &args.hub, &interrupt)?;
    let model = load::model(&path, settings, Some(1), &interrupt)?;
    let seed = parameters.sampling.seed;
    let overflow = if turns.is_empty() { Overflow::DropOldest } else { Overflow::Error };
    let overflow = args.on_overflow.unwrap_or(overflow);
    let mut chat = Chat::new(&model, args.system.as_deref(), parameters.clone(), overflow, interrupt)?;
    let mut out = Output::new(args.json);
    if turns.is_empty() {
        return chat.talk(saved, parameters, args.verbose, &mut out);
    }
    if let Some((file, saved)) = saved {
        let restored = chat.restore(saved, parameters)?;
        restored.warn(&file);
    }
    for turn in turns {
        let (answer, exit) = chat.once(turn, &mut out)?;
        if args.json {
            Output::new(false).write(&format!("{}\n", json(&answer, seed, &path)))?;
        } else {
            out.end_line()?;
        }
        if exit != Exit::Done {
            return Ok(exit);
        }
        if answer.reason == Reason::Length && !args.json {
            stderr::note(&format!(
                "the answer was cut after {} tokens; -n allows more",
                answer.usage.completion_tokens
            ));
        }
    }
    Ok(Exit::Done)
}

/// The conversation that `name` means, and where it lies.
fn saved(name: &str) -> Result<(PathBuf, Saved), Failure> {
    let file = crate::chat::file(name)?;
    let saved = Saved::read(&file)?;
    Ok((file, saved))
}

/// As typed → checked. What is not given is as it was saved, or the model card's.
fn parameters(args: &Args, saved: Option<&Parameters>) -> Result<Parameters, Failure> {
    let default = saved.map_or_else(Sampling::card, |saved| saved.sampling.clone());
    Ok(Parameters {
        sampling: args.sampling.sampling(default)?,
        max_tokens: args.sampling.max_tokens(saved.map_or(PREDICT, |saved| saved.max_tokens))?,
        stop: saved.map(|saved| saved.stop.clone()).unwrap_or_default(),
    })
}

/// The texts of -p, the last one followed by what is piped in; none asks for a conversation.
fn turns(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut turns = given.to_vec();
    if !std::io::stdin().is_terminal() {
        // Under a program that leaves stdin open, -p would seem to hang.
        let (ended, end) = mpsc::channel::<()>();
        let given = !turns.is_empty();
        std::thread::spawn(move || {
            if given && end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                stderr::note("waiting for the end of stdin; give </dev/null if nothing comes from there");
            }
        });
        let mut piped = String::new();
        std::io::stdin().lock().read_to_string(&mut piped).map_err(|err| match err.kind() {
            ErrorKind::InvalidData => Failure::input("PROMPT", "the text piped in is not UTF-8", "convert it to UTF-8"),
            _ => Failure::io(Path::new("stdin"), "cannot read", &err),
        })?;
        drop(ended);
        let piped = piped.trim_end_matches(['\r', '\n']);
        match turns.last_mut() {
            Some(last) if !piped.is_empty() => *last = format!("{last}\n\n{piped}"),
            Some(_) => {}
            None => turns.push(piped.to_owned()),
        }
    }
    match turns.iter().find(|text| text.trim().is_empty()) {
        Some(_) => Err(Failure::input("PROMPT", "the prompt is empty", "give -p TEXT, or pipe the text in")),
        None => Ok(turns),
    }
}

fn json(answer: &Answer, seed: u32, model: &Path) -> serde_json::Value {
    let usage = &answer.usage;
    serde_json::json!({
        "model": model.display().to_string(),
        "text": answer.text,
        "finish_reason": match answer.reason {
            Reason::Stop => "stop",
            Reason::Length => "length",
            Reason::Interrupted => "interrupted",
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
        "seed": seed,
    })
}

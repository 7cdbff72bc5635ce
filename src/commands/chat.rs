//! `tulu-quant chat`: talk to a model, or have one prompt answered.

use super::load;
use crate::chat::{Chat, Output};
use crate::cli::{EngineArgs, HubArgs, SamplingArgs};
use crate::decode::{Answer, Reason};
use crate::engine::Sampling;
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use std::io::{ErrorKind, IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// Tokens of an answer when -n is not given: the model card's own example.
const PREDICT: u32 = 256;

/// How long stdin may be silent before the user is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Chat with a model
///
/// Without -p and with a terminal: an interactive conversation. With -p, or with text piped in: one answer on stdout. With
/// both, the piped text follows the text of -p. Several -p are the turns of one conversation.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant chat\n  tulu-quant chat tulu-2-13b-Q4_K_M.gguf\n  \
    tulu-quant chat tulu-2-13b-Q4_K_M.gguf -p 'Summarise this:' < article.txt\n  \
    tulu-quant chat -p 'What is the capital of France?' -p 'And of Italy?' --temp 0")]
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
    let sampling = args.sampling.sampling(Sampling::card())?;
    let max_tokens = args.sampling.max_tokens(PREDICT)?;
    let turns = turns(&args.prompt)?;
    if args.json && turns.is_empty() {
        return Err(Failure::input("USAGE", "--json is for answers to -p", "give -p TEXT, or pipe the text in"));
    }
    let interrupt = Interrupt::install()?;
    let path = crate::model::resolve(args.model.as_deref(), &args.hub, &interrupt)?;
    let model = load::model(&path, settings, Some(1), &interrupt)?;
    let seed = sampling.seed;
    let mut chat = Chat::new(&model, args.system.as_deref(), sampling, max_tokens, interrupt)?;
    let mut out = Output::new(args.json);
    if turns.is_empty() {
        return chat.talk(&mut out);
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
            eprintln!(
                "tulu-quant: note: the answer was cut after {} tokens; -n allows more",
                answer.usage.completion_tokens
            );
        }
    }
    Ok(Exit::Done)
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
                eprintln!(
                    "tulu-quant: note: waiting for the end of stdin; give </dev/null if nothing comes from there"
                );
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

//! `tulu-quant chat`: talk to a model, or have one prompt answered.

use super::load;
use crate::chat::{Chat, Output};
use crate::cli::{EngineArgs, SamplingArgs};
use crate::decode::{Answer, Reason};
use crate::engine::Sampling;
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use std::io::{ErrorKind, IsTerminal as _, Read as _};
use std::path::Path;

/// Tokens of an answer when -n is not given: the model card's own example.
const PREDICT: u32 = 256;

/// Chat with a model
///
/// Without -p and with a terminal: an interactive conversation. With -p, or with text piped in: one answer on stdout. With
/// both, the piped text follows the text of -p.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A short name, Hub id, checkpoint folder or .gguf file; without it, the small demonstration model in the program
    #[arg(env = "TULU_QUANT_MODEL")]
    model: Option<String>,
    /// Answer this once and exit
    #[arg(short, long, value_name = "TEXT", env = "TULU_QUANT_PROMPT")]
    prompt: Option<String>,
    /// Instructions before the conversation (-sys)
    #[arg(long, value_name = "TEXT", env = "TULU_QUANT_SYSTEM")]
    system: Option<String>,
    /// Write the one answer as a JSON object with its token counts and speeds
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = args.engine.settings()?;
    let sampling = args.sampling.sampling(Sampling::card())?;
    let max_tokens = args.sampling.max_tokens(PREDICT)?;
    let prompt = prompt(args.prompt.as_deref())?;
    if args.json && prompt.is_none() {
        return Err(Failure::input("USAGE", "--json is for one answer", "give -p TEXT, or pipe the text in"));
    }
    let interrupt = Interrupt::install()?;
    let path = crate::model::resolve(args.model.as_deref(), &interrupt)?;
    let model = load::model(&path, settings, 1, &interrupt)?;
    let seed = sampling.seed;
    let mut chat = Chat::new(&model, args.system.as_deref(), sampling, max_tokens, interrupt)?;
    let mut out = Output::new(args.json);
    let Some(prompt) = prompt else { return chat.talk(&mut out) };

    let (answer, exit) = chat.once(prompt, &mut out)?;
    if args.json {
        crate::stdout(&format!("{}\n", json(&answer, seed, &path)))?;
        return Ok(exit);
    }
    out.end_line()?;
    if answer.reason == Reason::Length {
        eprintln!(
            "tulu-quant: note: the answer was cut after {} tokens; -n allows more",
            answer.usage.completion_tokens
        );
    }
    Ok(exit)
}

/// The text of -p followed by what is piped in; `None` asks for a conversation.
fn prompt(given: Option<&str>) -> Result<Option<String>, Failure> {
    let mut piped = String::new();
    if !std::io::stdin().is_terminal() {
        std::io::stdin().lock().read_to_string(&mut piped).map_err(|err| match err.kind() {
            ErrorKind::InvalidData => Failure::input("PROMPT", "the text piped in is not UTF-8", "convert it to UTF-8"),
            _ => Failure::io(Path::new("stdin"), "cannot read", &err),
        })?;
    } else if given.is_none() {
        return Ok(None);
    }
    let parts: Vec<&str> = [given.unwrap_or_default(), piped.trim_end_matches(['\r', '\n'])].into();
    let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
    if text.trim().is_empty() {
        return Err(Failure::input("PROMPT", "the prompt is empty", "give -p TEXT, or pipe the text in"));
    }
    Ok(Some(text))
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

//! Starts the threads of the server, and waits for their end.

use super::body::BodyLimits;
use super::config::ServeConfig;
use super::engine_loop::EngineLoop;
use super::http::serve_http;
use super::prepare::RequestDefaults;
use super::prompt_thread::{PromptTools, run_tasks};
use super::saved_prompts::SavedPrompts;
use super::server::{ModelFacts, Server};
use super::stats::Stats;
use crate::decode::{Decoder, Drafts, Mode};
use crate::engine::Model;
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::prompt::Prompts;
use sha2::{Digest as _, Sha256};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::UNIX_EPOCH;
use tokio::sync::Semaphore;
use tulu_quantize::gguf::Gguf;
use tulu_quantize::{Ftype, hex};

/// Serves `model` on `listeners` until `interrupt` asks to stop. `ready` is called when requests are accepted.
pub(crate) fn serve<'m>(
    model: &'m Model,
    drafts: Drafts<'m>,
    config: ServeConfig,
    listeners: Vec<TcpListener>,
    interrupt: &Interrupt,
    ready: impl FnOnce() -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let template = model.chat_template();
    let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(model.path()))?;
    // A request to stop lets running answers finish, so it must not stop a computation.
    let mut decoder = Decoder::new(model, Mode::Interactive, drafts, &Interrupt::unused())?;
    let fingerprint = crate::model::fingerprint(model.path())?;
    let facts = facts(model, &config, &decoder, &fingerprint)?;
    let saved = config.cache.clone();
    let mut saved = saved.map(|saved| SavedPrompts::open(saved, model, fingerprint.to_string())).transpose()?;
    if let Some(saved) = &mut saved {
        saved.load(&mut decoder)?;
    }
    let tools = PromptTools {
        prompts,
        vocab: model.vocab(),
        n_ctx: facts.n_ctx,
        largest: facts.n_ctx >= facts.n_ctx_train as usize,
    };
    // Other sequences keep the tokens of finished requests.
    let n_places = decoder.n_slots() + model.kv_plan().n_ahead as usize;
    let stats = Arc::new(Stats::default());
    let (tasks, task_receiver) = channel();
    let (jobs, job_receiver) = channel();
    let defaults =
        RequestDefaults { sampling: config.sampling.clone(), seed: config.seed, max_tokens: config.max_tokens };
    let server = Arc::new(Server {
        defaults,
        tasks,
        jobs,
        places: Arc::new(Semaphore::new(decoder.n_slots() + config.queue)),
        bodies: BodyLimits::new(facts.n_ctx),
        stats: stats.clone(),
        model: facts,
        config,
    });
    let failed = AtomicBool::new(false);
    let engine_failed = &failed;
    thread::scope(|scope| {
        let start = |name: &str| thread::Builder::new().name(name.to_owned());
        let no_thread = |err: std::io::Error| {
            Failure::machine(Code::Threads, format!("cannot start a thread: {err}"), "allow more processes (ulimit -u)")
        };
        start("prompts").spawn_scoped(scope, move || run_tasks(&tools, &task_receiver)).map_err(no_thread)?;
        // The server is dropped at the end of this thread, and with it the senders that the other threads wait for.
        let http = move || {
            let server = server;
            serve_http(&server, listeners, interrupt, engine_failed)
        };
        let http = start("http").spawn_scoped(scope, http).map_err(no_thread)?;
        let ended = ready().and_then(|()| EngineLoop::new(decoder, n_places, job_receiver, &stats).run());
        engine_failed.store(ended.is_err(), Ordering::SeqCst);
        let served = http.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if let (Some(saved), Ok(decoder)) = (&saved, &ended) {
            saved.save(decoder);
        }
        ended.and(served).map(|()| Exit::Done)
    })
}

fn facts(
    model: &Model,
    config: &ServeConfig,
    decoder: &Decoder<'_>,
    fingerprint: &serde_json::Value,
) -> Result<ModelFacts, Failure> {
    let about = std::fs::metadata(model.path()).map_err(|err| Failure::io(model.path(), "cannot read", &err))?;
    let made = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let gguf = Gguf::open(model.path())?;
    let identity = Sha256::new().chain_update(fingerprint.to_string()).chain_update(env!("CARGO_PKG_VERSION"));
    Ok(ModelFacts {
        name: config.model_name.clone(),
        fingerprint: format!("fp_{}", &hex(&identity.finalize())[..10]),
        created: made.map_or(0, |since| since.as_secs()),
        n_ctx: decoder.n_ctx(),
        n_ctx_train: model.dims().n_ctx_train,
        n_slots: decoder.n_slots(),
        n_vocab: model.vocab().len(),
        n_params: model.n_params(),
        file: std::fs::canonicalize(model.path()).unwrap_or_else(|_| model.path().to_owned()).display().to_string(),
        bytes: about.len(),
        digest: fingerprint["sha256_of_samples"].as_str().unwrap_or_default().to_owned(),
        file_type: gguf.u32("general.file_type").and_then(Ftype::from_id).map_or("unknown", Ftype::name),
        template: model.chat_template().unwrap_or_default(),
    })
}

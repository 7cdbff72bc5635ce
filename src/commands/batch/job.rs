//! A checked batch command: as typed → checked → input → model → run. What its answers depend on is in `identity`, the way
//! through journal, output and manifest in `file`.

use super::Args;
use super::summary::Ending;
use super::watch::RunProgress;
use crate::atomic_file::folder_of;
use crate::batch::{
    Defaults, Format, Framing, InputFile, InputIndex, RecordSink, RunStats, Runner, Shard, StdoutSink,
    estimate_workload,
};
use crate::commands::load;
use crate::decode::{Decoder, Mode};
use crate::engine::{Model, Sampling, Settings};
use crate::error::{Code, Exit, Failure};
use crate::hex::hex;
use crate::interrupt::Interrupt;
use crate::prompt::Prompts;
use crate::stderr::note;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Answers at once when nobody says how many, at the most.
const N_SLOTS_AUTO: u32 = 32;
/// So few answers get a slot each.
const FEW: u64 = 8;

/// A checked command: what is to be answered, and where it goes.
pub(super) struct Job<'a> {
    pub(super) args: &'a Args,
    pub(super) model: &'a OsStr,
    pub(super) settings: Settings,
    pub(super) sampling: Sampling,
    pub(super) source: InputFile,
    pub(super) framing: Framing,
    pub(super) format: Format,
    pub(super) contents: InputIndex,
    /// `None`: stdout.
    output: Option<PathBuf>,
    pub(super) shard: Shard,
    pub(super) interrupt: Interrupt,
}

impl<'a> Job<'a> {
    /// As typed → checked; the input is read once.
    pub(super) fn new(args: &'a Args) -> Result<Self, Failure> {
        let (Some(model), Some(input), Some(output)) = (&args.model, &args.input, &args.output) else {
            return Err(Failure::input(
                Code::Usage,
                "model, input or output is missing",
                "see `tulu-quant batch --help`",
            ));
        };
        let settings = Settings { n_cells: args.kv_tokens, ..args.engine.settings()? };
        let sampling = sampling(args)?;
        let shard = args.shard.as_deref().map(|text| Shard::parse(text, |name| std::env::var(name).ok()));
        let shard = shard.transpose()?.unwrap_or(Shard::WHOLE);
        let output = (output != Path::new("-")).then(|| with_shard(output, shard));
        let refuse = |what: &str, fix: &str| Err(Failure::input(Code::Flags, what, fix));
        match &output {
            None if args.retry_errors || args.restart => {
                return refuse("-o - keeps nothing of an earlier run", "give -o FILE, or leave the flag out");
            }
            None if args.json => return refuse("results and the summary would both go to stdout", "give -o FILE"),
            _ => {}
        }
        if args.restart && args.retry_errors {
            return refuse("--restart discards what --retry-errors keeps", "give one of them");
        }
        let source = if input == Path::new("-") {
            let here = output.as_deref().map(folder_of).unwrap_or_else(std::env::temp_dir);
            InputFile::stdin(&here)?
        } else {
            InputFile::open(input)?
        };
        let head = source.head()?;
        crate::batch::check_encoding(&head).map_err(|failure| failure.at(input))?;
        let format = match args.format.or_else(|| Format::detect(&head, input)) {
            Some(format) => format,
            None => {
                let fix = "give --format openai, alpaca-eval, mt-bench or text";
                return Err(Failure::input(Code::Format, "does not show which format it has", fix).at(input));
            }
        };
        format.check(&head).map_err(|failure| failure.at(input))?;
        if format == Format::MtBench && args.sampling.top_k.is_some() {
            return refuse("MT-Bench has top-k 50, as FastChat has it", "leave --top-k out");
        }
        if format == Format::MtBench && args.sampling.temp.is_some() {
            return refuse("MT-Bench has a temperature for each category", "leave --temp out");
        }
        let framing = format.framing(&head);
        let contents = source.records(framing)?.index()?;
        if let Some(output) = output.as_deref().filter(|output| same_file(input, output)) {
            return Err(Failure::input(Code::Output, "is the input", "give another -o").at(output));
        }
        let interrupt = Interrupt::install()?;
        Ok(Self { args, model, settings, sampling, source, framing, format, contents, output, shard, interrupt })
    }

    /// Records of this run's shard.
    pub(super) fn total(&self) -> u64 {
        self.shard.len(self.contents.len())
    }

    /// Does it.
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match &self.output {
            Some(output) => self.to_file(output),
            None => self.to_stdout(),
        }
    }

    fn to_stdout(&self) -> Result<Exit, Failure> {
        let model_file = load::resolve(Some(self.model), &self.settings, &self.args.hub, &self.interrupt)?;
        let identity = self.identity(&model_file)?;
        let mut defaults = self.defaults(&identity)?;
        let mut stream = StdoutSink::new(std::io::stdout(), self.format, self.shard);
        let (began, total) = (Instant::now(), self.total());
        let mut tally = RunStats::default();
        if total > 0 {
            let model = self.load(&model_file, identity.window, &defaults, &stream)?;
            let (done, stopped) = self.answer(&model, &mut defaults, &mut stream)?;
            match stopped {
                Some(Exit::Done) => return Ok(Exit::Done),
                Some(exit) => {
                    let what = format!("stopped with {} of {total} records finished", stream.len());
                    let fix = "run it again; with -o FILE it would go on where it was";
                    return Err(Failure { exit, ..Failure::input(Code::Interrupted, what, fix) });
                }
                None => tally = done,
            }
        }
        let mut ending = Ending { total, tally, seconds: began.elapsed().as_secs_f64(), ..Ending::default() };
        ending.sums.failed = stream.failed();
        for record in stream.finish()? {
            note(&format!("not answered: {record}"));
        }
        ending.say_figures();
        Ok(if ending.sums.failed > 0 { Exit::Partial } else { Exit::Done })
    }

    /// Loads the model for what `results` lack. `window` is that of the run, where it has one already.
    pub(super) fn load(
        &self,
        path: &Path,
        window: Option<u32>,
        defaults: &Defaults,
        results: &dyn RecordSink,
    ) -> Result<Model, Failure> {
        let parallel = self.args.parallel.filter(|_| !self.args.deterministic);
        // Prompts that are read ahead take cells, too.
        let at_once = 2 * parallel.unwrap_or(N_SLOTS_AUTO) as usize;
        let asked =
            estimate_workload(self.source.indexed_records(self.framing, &self.contents)?, defaults, results, at_once)?;
        let slots = match (self.args.deterministic, asked) {
            (true, _) => Some(1),
            (false, Some(asked)) if asked.answers < FEW => parallel.or(u32::try_from(asked.answers.max(1)).ok()),
            (false, _) => parallel,
        };
        let n_needed = asked.and_then(|asked| asked.tokens);
        let settings = Settings { n_ctx: window, n_needed, ..self.settings.clone() };
        load::model(path, settings, slots, &self.interrupt)
    }

    /// Answers what `results` lack.
    pub(super) fn answer(
        &self,
        model: &Model,
        defaults: &mut Defaults,
        results: &mut dyn RecordSink,
    ) -> Result<(RunStats, Option<Exit>), Failure> {
        let mode = if self.args.deterministic { Mode::Deterministic } else { Mode::Throughput };
        let template = model.chat_template();
        let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(model.path()))?;
        let decoder = Decoder::new(model, mode, &self.interrupt)?;
        defaults.n_ctx_train = Some(model.dims().n_ctx_train);
        let mut watch = RunProgress::new(self.total(), results.len(), model.kv_plan().n_slots);
        let run = Runner::new(decoder, &prompts, results, defaults, &self.contents, &mut watch);
        let items = self.source.indexed_records(self.framing, &self.contents)?;
        run.finish(items, &self.interrupt).map_err(|failure| match failure.code {
            Code::InputChanged => failure.at(self.source.path()),
            _ => failure,
        })
    }
}

/// How tokens are chosen for a record that does not say. Without a temperature the rest has no effect; a record that gives
/// one expects what OpenAI's API would do.
fn sampling(args: &Args) -> Result<Sampling, Failure> {
    let neutral = Sampling {
        top_k: 0,
        top_p: 1.0,
        presence_penalty: args.presence_penalty.unwrap_or(0.0),
        frequency_penalty: args.frequency_penalty.unwrap_or(0.0),
        ..Sampling::greedy()
    };
    let sampling = args.sampling.sampling(neutral)?;
    args.sampling.max_tokens(u32::MAX)?;
    if let Some(penalty) = args.repetition_penalty {
        Sampling { repeat_penalty: penalty, ..sampling.clone() }.check()?;
    }
    Ok(sampling)
}

/// How the engine ran, for the manifest.
pub(super) fn engine(model: &Model) -> Value {
    let (settings, template) = (model.settings(), model.chat_template());
    json!({
        "slots": model.kv_plan().n_slots,
        "threads": model.n_threads(),
        "n_ctx": model.n_ctx(),
        "kv_tokens": model.kv_plan().n_cells,
        "gpu_layers": settings.n_gpu_layers,
        "flash_attn": settings.flash_attn.name(),
        "repacked": model.repacked(),
        "cache_types": [settings.type_k.name(), settings.type_v.name()],
        "template_sha256": template.map(|text| hex(&Sha256::digest(text))),
    })
}

/// The path with the shard in place of `{shard}`.
fn with_shard(path: &Path, shard: Shard) -> PathBuf {
    match path.to_str() {
        Some(text) => PathBuf::from(text.replace("{shard}", &shard.tag())),
        None => path.to_owned(),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

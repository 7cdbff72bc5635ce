//! A checked batch command and its way: as typed → checked → input → journal → model → run → output → manifest.

use super::Args;
use super::summary::{self, Ending};
use super::watch::Terminal;
use crate::batch::{Contents, Defaults, Format, Journal, Results, Run, Shape, Shard, Source, Stream, Tally};
use crate::commands::load;
use crate::decode::{Decoder, Order};
use crate::engine::{Model, Sampling, Settings};
use crate::error::{Exit, Failure};
use crate::hex::hex;
use crate::interrupt::Interrupt;
use crate::prompt::Prompts;
use crate::stderr::note;
use crate::{clock, model};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A checked command: what is to be answered, and where it goes.
pub(super) struct Job<'a> {
    args: &'a Args,
    model: &'a OsStr,
    settings: Settings,
    sampling: Sampling,
    pub(super) source: Source,
    shape: Shape,
    format: Format,
    pub(super) contents: Contents,
    /// `None`: stdout.
    output: Option<PathBuf>,
    pub(super) shard: Shard,
    interrupt: Interrupt,
}

impl<'a> Job<'a> {
    /// As typed → checked; the input is read once.
    pub(super) fn new(args: &'a Args) -> Result<Self, Failure> {
        let (Some(model), Some(input), Some(output)) = (&args.model, &args.input, &args.output) else {
            return Err(Failure::input("USAGE", "model, input or output is missing", "see `tulu-quant batch --help`"));
        };
        let settings = Settings { n_cells: args.kv_tokens, ..args.engine.settings()? };
        // Without a temperature the rest has no effect; a record that gives one expects what OpenAI's API would do.
        let neutral = Sampling { top_k: 0, top_p: 1.0, ..Sampling::greedy() };
        let sampling = args.sampling.sampling(neutral)?;
        args.sampling.max_tokens(u32::MAX)?;
        let shard = args.shard.as_deref().map(|text| Shard::parse(text, |name| std::env::var(name).ok()));
        let shard = shard.transpose()?.unwrap_or(Shard::WHOLE);
        let output = (output != Path::new("-")).then(|| with_shard(output, shard));
        let refuse = |what: &str, fix: &str| Err(Failure::input("FLAGS", what, fix));
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
            Source::stdin(&here)?
        } else {
            Source::open(input)?
        };
        let head = source.head()?;
        let format = match args.format.or_else(|| Format::guess(&head, input)) {
            Some(format) => format,
            None => {
                let fix = "give --format openai, alpaca-eval, mt-bench or text";
                return Err(Failure::input("FORMAT", "does not show which format it has", fix).at(input));
            }
        };
        if format == Format::MtBench && args.sampling.temp.is_some() {
            return refuse("MT-Bench has a temperature for each category", "leave --temp out");
        }
        let shape = format.shape(&head);
        let contents = source.items(shape)?.contents()?;
        if let Some(output) = output.as_deref().filter(|output| same_file(input, output)) {
            return Err(Failure::input("OUTPUT", "is the input", "give another -o").at(output));
        }
        let interrupt = Interrupt::install()?;
        Ok(Self { args, model, settings, sampling, source, shape, format, contents, output, shard, interrupt })
    }

    /// Records of this run's shard.
    fn total(&self) -> u64 {
        self.shard.len(self.contents.len())
    }

    /// Does it.
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match &self.output {
            Some(output) => self.to_file(output),
            None => self.to_stdout(),
        }
    }

    fn to_file(&self, output: &Path) -> Result<Exit, Failure> {
        let mut journal = Journal::open(output, self.args.restart, self.args.force)?;
        let model_file = load::resolve(Some(self.model), &self.settings, &self.args.hub, &self.interrupt)?;
        let identity = self.identity(&model_file)?;
        let defaults = self.defaults(&identity)?;
        journal.begin(&identity, &self.contents, self.args.retry_errors)?;
        if journal.dropped() > 0 {
            note(&format!(
                "{} bytes of a record that was not finished were dropped from the journal",
                journal.dropped()
            ));
        }
        let (resumed, total) = (journal.len(), self.total());
        if resumed > 0 {
            note(&format!("going on after {resumed} of {total} records"));
        }
        let (began, started) = (Instant::now(), clock::now());
        let mut used = None;
        let hash = model::FullHash::start(&model_file, &self.interrupt);
        let mut ending = Ending { total, resumed, ..Ending::default() };
        if resumed < total {
            let answered = self.answer(&model_file, &defaults, &mut journal, &mut used);
            let kept = "what is finished is kept; the same command goes on with it";
            let (tally, stopped) = answered.inspect_err(|_| note(kept))?;
            if let Some(exit) = stopped {
                let what = format!("stopped with {} of {total} records finished", journal.len());
                let fix = format!("go on with: {}", summary::command_line());
                return Err(Failure { exit, ..Failure::input("INTERRUPTED", what, fix) });
            }
            ending.tally = tally;
        }
        ending.seconds = began.elapsed().as_secs_f64();
        ending.sums = journal.sums();
        let numbers = (1..).zip(&self.contents.keys).filter(|(number, _)| self.shard.has(*number));
        let written = journal.assemble(self.format, numbers.map(|(_, key)| *key))?;
        if !hash.is_done() {
            note("the output is complete; the model's sha256 for the manifest is being computed");
        }
        let model = json!({
            "path": model_file.display().to_string(),
            "name": defaults.model,
            "sha256": hash.wait(),
        });
        summary::write_manifest(self, output, &ending, &written, &identity, model, used, started)?;
        // While something failed, the journal is what --retry-errors goes by.
        if ending.sums.failed == 0 {
            journal.remove()?;
        }
        ending.say(&written);
        if self.args.json {
            crate::stdout(&format!("{}\n", ending.json(output)))?;
        }
        Ok(if ending.sums.failed > 0 { Exit::Partial } else { Exit::Done })
    }

    fn to_stdout(&self) -> Result<Exit, Failure> {
        let model_file = load::resolve(Some(self.model), &self.settings, &self.args.hub, &self.interrupt)?;
        let defaults = self.defaults(&self.identity(&model_file)?)?;
        let mut stream = Stream::new(std::io::stdout(), self.format, self.shard);
        let (began, total) = (Instant::now(), self.total());
        let mut tally = Tally::default();
        if total > 0 {
            let (done, stopped) = self.answer(&model_file, &defaults, &mut stream, &mut None)?;
            match stopped {
                Some(Exit::Done) => return Ok(Exit::Done),
                Some(exit) => {
                    let what = format!("stopped with {} of {total} records finished", stream.len());
                    let fix = "run it again; with -o FILE it would go on where it was";
                    return Err(Failure { exit, ..Failure::input("INTERRUPTED", what, fix) });
                }
                None => tally = done,
            }
        }
        let mut ending = Ending { total, tally, seconds: began.elapsed().as_secs_f64(), ..Ending::default() };
        ending.sums.failed = stream.failed();
        for refusal in stream.finish()? {
            note(&format!("not answered: {refusal}"));
        }
        ending.say_figures();
        Ok(if ending.sums.failed > 0 { Exit::Partial } else { Exit::Done })
    }

    /// Loads the model and answers what `results` lack. `used` gets the engine's side of the manifest.
    fn answer(
        &self,
        model: &Path,
        defaults: &Defaults,
        results: &mut dyn Results,
        used: &mut Option<Value>,
    ) -> Result<(Tally, Option<Exit>), Failure> {
        let total = self.total();
        let (order, slots) = match self.args.deterministic {
            true => (Order::Same, Some(1)),
            false => (Order::Bulk, self.slots(total - results.len())),
        };
        let model = load::model(model, self.settings.clone(), slots, &self.interrupt)?;
        let (slots, template) = (model.cache().n_slots, model.chat_template());
        *used = Some(engine(&model, slots, template.as_deref()));
        let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(model.path()))?;
        let decoder = Decoder::new(&model, order, &self.interrupt)?;
        let mut watch = Terminal::new(total, results.len(), slots);
        let run = Run::new(decoder, &prompts, results, defaults, &self.contents, &mut watch);
        run.finish(self.source.items(self.shape)?, &self.interrupt).map_err(|failure| match failure.code {
            "INPUT_CHANGED" => failure.at(self.source.path()),
            _ => failure,
        })
    }

    /// How many slots to load the model for; few answers need no memory for many. `None`: as many as suit the memory.
    fn slots(&self, records: u64) -> Option<u32> {
        let answers = u32::try_from(records).unwrap_or(u32::MAX).saturating_mul(self.args.num_choices);
        self.args.parallel.or_else(|| (answers < 8).then_some(answers.max(1)))
    }

    /// Everything that the answers depend on. Threads and slots are left out: another machine may go on with a run, unless
    /// the last bit counts. The window is apart: it may change when refused records are tried again.
    fn identity(&self, model: &Path) -> Result<Value, Failure> {
        let sampling = &self.sampling;
        Ok(json!({
            "model": model::fingerprint(model)?,
            "format": self.format.name(),
            "settings": {
                "sampling": crate::engine::SAMPLING_VERSION,
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "repeat_penalty": sampling.repeat_penalty,
                "repeat_last_n": sampling.repeat_last_n,
                "seed": sampling.seed,
                "max_tokens": self.max_tokens()?,
                "num_choices": self.args.num_choices,
                "cache_types": [self.settings.type_k.name(), self.settings.type_v.name()],
                "generator": self.args.generator,
                "deterministic": self.args.deterministic.then(|| json!({
                    "threads": self.settings.n_threads,
                    "repack": self.settings.repack.name(),
                    "cores": std::thread::available_parallelism().ok().map(NonZeroUsize::get),
                })),
            },
            "window": self.settings.n_ctx,
            "shard": if self.shard == Shard::WHOLE { None } else { Some(self.shard.to_string()) },
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    fn max_tokens(&self) -> Result<u32, Failure> {
        self.args.sampling.max_tokens(self.format.max_tokens())
    }

    fn defaults(&self, identity: &Value) -> Result<Defaults, Failure> {
        // As the user calls it: a folder's converted file has a name of the cache's making.
        let typed = Path::new(self.model);
        let name = if typed.is_file() { typed.file_stem() } else { typed.file_name() };
        let name = || name.unwrap_or_default().to_string_lossy().into_owned();
        let digest = |fields: &[&str]| {
            let hash = fields.iter().fold(Sha256::new(), |hash, field| hash.chain_update(identity[*field].to_string()));
            hex(&hash.finalize())
        };
        Ok(Defaults {
            format: self.format,
            shard: self.shard,
            sampling: self.sampling.clone(),
            n: self.args.num_choices,
            max_tokens: self.max_tokens()?,
            model: self.args.generator.clone().unwrap_or_else(name),
            fingerprint: format!("fp_{}", &digest(&["model", "version"])[..10]),
            salt: digest(&["model", "format", "settings", "version"]),
            stamp: stamp().or_else(|| self.args.deterministic.then_some(0.0)),
        })
    }
}

/// The time in the answers where it is not that of the clock: reproducible builds have a variable for it.
fn stamp() -> Option<f64> {
    std::env::var("SOURCE_DATE_EPOCH").ok()?.trim().parse::<u32>().ok().map(f64::from)
}

/// How the engine ran, for the manifest.
fn engine(model: &Model, slots: u32, template: Option<&str>) -> Value {
    let settings = model.settings();
    json!({
        "slots": slots,
        "threads": model.n_threads(),
        "n_ctx": model.n_ctx(),
        "gpu_layers": settings.n_gpu_layers,
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

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

//! A validated `batch` command, and the steps shared by runs to a file and to stdout: load the model, answer the
//! records.

use super::args::Args;
use super::progress::RunProgress;
use crate::atomic_file::folder_of;
use crate::batch::{
    Defaults, Format, Framing, InputFile, InputIndex, RecordSink, RunOptions, RunStats, Runner, Shard, check_encoding,
    estimate_workload,
};
use crate::commands::load_model;
use crate::decode::{Decoder, Mode};
use crate::engine::{EngineSettings, GpuLayers, GpuSettings, Model, Sampling, shown_device, usable_devices};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::model;
use crate::prompt::Prompts;
use std::path::{Path, PathBuf};

/// A validated command. The input was read once.
pub(super) struct BatchCommand<'a> {
    pub(super) args: &'a Args,
    pub(super) options: RunOptions,
    pub(super) input: InputFile,
    pub(super) index: InputIndex,
    /// `None`: stdout.
    pub(super) output: Option<PathBuf>,
    pub(super) interrupt: Interrupt,
    framing: Framing,
}

impl<'a> BatchCommand<'a> {
    /// Validates the arguments, detects the format, and reads the input once.
    pub(super) fn new(args: &'a Args) -> Result<Self, Failure> {
        let (Some(model), Some(input), Some(output)) = (&args.model, &args.input, &args.output) else {
            let what = "model, input or output is missing";
            return Err(Failure::input(Code::Usage, what, "see `tulu-quant batch --help`"));
        };
        let engine = EngineSettings { n_cells: args.kv_tokens, ..args.engine.settings()? };
        let (engine, gpus) = if args.deterministic { fixed_layers(engine)? } else { (engine, Vec::new()) };
        let sampling = sampling(args)?;
        let shard = args.shard.as_deref().map(|text| Shard::parse(text, |name| std::env::var(name).ok()));
        let shard = shard.transpose()?.unwrap_or(Shard::WHOLE);
        let output = (output != Path::new("-")).then(|| with_shard(output, shard));
        check_flags(args, output.is_none())?;
        let file = if input == Path::new("-") {
            InputFile::stdin(&output.as_deref().map(folder_of).unwrap_or_else(std::env::temp_dir))?
        } else {
            InputFile::open(input)?
        };
        let head = file.head()?;
        let format = format_of(args, &head, input)?;
        let framing = format.framing(&head);
        let index = file.records(framing)?.index()?;
        if let Some(output) = output.as_deref().filter(|output| same_file(input, output)) {
            return Err(Failure::input(Code::Output, "is the input", "give another -o").at(output));
        }
        let options = RunOptions {
            model: model.clone(),
            engine,
            format,
            shard,
            sampling,
            repetition_penalty: args.repetition_penalty,
            grammar: args.structure.grammar()?,
            stop: args.stop.clone(),
            num_choices: args.num_choices,
            max_tokens: args.sampling.max_tokens(format.max_tokens())?,
            generator: args.generator.clone(),
            parallel: args.parallel,
            deterministic: args.deterministic,
            gpus,
            stamp: stamp(args.deterministic),
        };
        let interrupt = Interrupt::install()?;
        Ok(Self { args, options, input: file, index, output, interrupt, framing })
    }

    /// Returns the number of records of this run's shard.
    pub(super) fn total(&self) -> u64 {
        self.options.shard.len(self.index.len())
    }

    /// Returns the GGUF file of the model; downloads and converts it if necessary.
    pub(super) fn resolve_model(&self) -> Result<PathBuf, Failure> {
        load_model::resolve(Some(&self.options.model), &self.options.engine, &self.args.hub, &self.interrupt)
    }

    /// Returns the GGUF file of the draft model, if there is one, and `settings` that leave memory for it.
    fn resolve_second(&self, settings: EngineSettings) -> Result<(Option<PathBuf>, EngineSettings), Failure> {
        load_model::resolve_second(&self.args.drafts, settings, &self.args.hub, &self.interrupt)
    }

    /// Returns everything that the answers depend on.
    pub(super) fn identity(&self, model_file: &Path) -> Result<crate::batch::identity::Identity, Failure> {
        let fingerprint = serde_json::from_value(model::fingerprint(model_file)?).map_err(|err| {
            Failure::engine(Code::Defect, format!("a fingerprint without its fields: {err}"), "report this")
        })?;
        self.options.identity(model_file, fingerprint)
    }

    /// Loads the model, sized for the records that are not in `results`. `n_ctx` is the context size, if it was given
    /// or is known from the first run.
    pub(super) fn load(
        &self,
        path: &Path,
        n_ctx: Option<u32>,
        defaults: &Defaults,
        results: &dyn RecordSink,
    ) -> Result<Model, Failure> {
        let records = self.input.indexed_records(self.framing, &self.index)?;
        let workload = estimate_workload(records, defaults, results, self.options.n_sequences_max())?;
        let n_needed = workload.and_then(|workload| workload.tokens);
        let settings = EngineSettings { n_ctx, n_needed, ..self.options.engine.clone() };
        let (_, settings) = self.resolve_second(settings)?;
        load_model::model(path, settings, self.options.n_slots(workload.as_ref()), &self.interrupt)
    }

    /// Answers the records that are not in `results`. The second value is set if the run stopped early; see
    /// [`Runner::run`].
    pub(super) fn answer(
        &self,
        model: &Model,
        defaults: &mut Defaults,
        results: &mut dyn RecordSink,
    ) -> Result<(RunStats, Option<Exit>), Failure> {
        let mode = if self.options.deterministic { Mode::Deterministic } else { Mode::Throughput };
        let template = model.chat_template();
        let prompts = Prompts::new(model.vocab(), template.as_deref()).map_err(|failure| failure.at(model.path()))?;
        let (second, _) = self.resolve_second(EngineSettings::default())?;
        let second = second.map(|path| load_model::second(&path, model, &self.interrupt)).transpose()?;
        let decoder = Decoder::new(model, mode, self.args.drafts.drafts(second.as_ref()), &self.interrupt)?;
        defaults.n_ctx_train = Some(model.dims().n_ctx_train);
        let mut progress = RunProgress::new(self.total(), results.len(), model.kv_plan().n_slots);
        let runner = Runner::new(decoder, &prompts, results, defaults, &self.index, &mut progress);
        let records = self.input.indexed_records(self.framing, &self.index)?;
        runner.run(records, &self.interrupt).map_err(|failure| match failure.code {
            Code::InputChanged => failure.at(self.input.path()),
            _ => failure,
        })
    }
}

/// Refuses flags that contradict each other.
fn check_flags(args: &Args, to_stdout: bool) -> Result<(), Failure> {
    let refuse = |what: &str, fix: &str| Err(Failure::input(Code::Flags, what, fix));
    if to_stdout && (args.retry_errors || args.restart) {
        let what = "--restart and --retry-errors need -o FILE: a run to stdout has no journal";
        return refuse(what, "give -o FILE, or leave the flag out");
    }
    if to_stdout && args.json {
        return refuse("results and the summary would both go to stdout", "give -o FILE");
    }
    if args.deterministic && args.drafts.draft.is_some() {
        return refuse("--deterministic uses no drafts", "leave --draft out");
    }
    if args.restart && args.retry_errors {
        return refuse("--restart discards what --retry-errors keeps", "give one of them");
    }
    Ok(())
}

/// Returns the format of the input, given or detected. Returns an error if the input or the flags do not match it.
fn format_of(args: &Args, head: &[u8], input: &Path) -> Result<Format, Failure> {
    check_encoding(head).map_err(|failure| failure.at(input))?;
    let format = args.format.or_else(|| Format::detect(head, input)).ok_or_else(|| {
        let fix = "give --format openai, alpaca-eval, mt-bench or text";
        Failure::input(Code::Format, "cannot detect the input format", fix).at(input)
    })?;
    format.check(head).map_err(|failure| failure.at(input))?;
    if format == Format::MtBench && args.sampling.top_k.is_some() {
        return Err(Failure::input(Code::Flags, "MT-Bench has top-k 50, as in FastChat", "leave --top-k out"));
    }
    if format == Format::MtBench && args.sampling.temp.is_some() {
        let what = "MT-Bench has a temperature for each category";
        return Err(Failure::input(Code::Flags, what, "leave --temp out"));
    }
    Ok(format)
}

/// Returns the sampling for records that do not set it: greedy. If a record sets only the temperature, the other values
/// are the defaults of OpenAI's API.
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

/// Returns the fixed timestamp of results, in seconds since 1970: SOURCE_DATE_EPOCH, or 0 in deterministic runs.
fn stamp(deterministic: bool) -> Option<f64> {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse::<u32>().ok());
    given.map(f64::from).or_else(|| deterministic.then_some(0.0))
}

/// Replaces `{shard}` in the path.
fn with_shard(path: &Path, shard: Shard) -> PathBuf {
    match path.to_str() {
        Some(text) => PathBuf::from(text.replace("{shard}", &shard.tag())),
        None => path.to_owned(),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Returns the settings of a reproducible run, and the names of its GPUs. The numbers depend on the layers on GPUs, so these
/// do not depend on the free memory: all, unless the user gives a number, and none without a GPU.
fn fixed_layers(engine: EngineSettings) -> Result<(EngineSettings, Vec<String>), Failure> {
    let devices = usable_devices(&engine.gpu)?;
    let layers = match engine.gpu.layers {
        _ if devices.is_empty() => GpuLayers::Count(0),
        GpuLayers::Auto => GpuLayers::All,
        given => given,
    };
    let names = devices.iter().map(|one| shown_device(&one.device)).collect();
    Ok((EngineSettings { gpu: GpuSettings { layers, ..engine.gpu }, ..engine }, names))
}

//! `--eval`: evaluates the outputs against the source, for the model card, and with `--record` for their metadata.

use super::super::eval::{Job, base_type, evaluate_files};
use crate::corpus::{Corpus, Shipped};
use crate::engine::{EngineSettings, N_CTX_MIN, Repack};
use crate::error::{Code, Failure};
use crate::eval::Encoding;
use crate::interrupt::Interrupt;
use crate::model::eval_record::{Distance, EvalRecord, is_eval_key};
use crate::sanitize::shown;
use crate::stderr;
use crate::table;
use crate::watch::Watch;
use std::fs;
use std::path::{Path, PathBuf};
use tulu_quantize::gguf::{Gguf, replace_pairs};
use tulu_quantize::{Checkpoint, Ftype, Plan, QuantizeOptions};

/// Tokens of a chunk, the default of `eval`.
const CHUNK: u32 = 512;

/// An evaluation of the outputs.
pub(super) struct Evaluation {
    corpus: Corpus,
    n_max: Option<usize>,
    settings: EngineSettings,
    /// The type and the file that the others are compared with.
    base: (Ftype, PathBuf),
    /// Whether the base is made for the evaluation, and deleted.
    is_temporary: bool,
    /// Its files, once they exist: parts, if it is split.
    made: Vec<PathBuf>,
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        for file in &self.made {
            let _ = fs::remove_file(file);
        }
    }
}

impl Evaluation {
    /// Reads the text, and chooses the base: the source if it is a GGUF file, or the output that is lossless, or else one
    /// more file, which is added to `outputs`.
    pub(super) fn new(
        source: &Checkpoint,
        outputs: &mut Vec<(Ftype, PathBuf)>,
        text: Option<&Path>,
        n_max: Option<u32>,
        n_threads: Option<u32>,
    ) -> Result<Self, Failure> {
        let corpus = Corpus::read(text, Shipped::Evaluation)?;
        let settings = EngineSettings {
            n_ctx: Some(CHUNK.max(N_CTX_MIN)),
            n_threads,
            repack: Repack::On,
            ..EngineSettings::default()
        };
        let kind = base_type(source);
        let lossless = |ftype: Ftype| outputs.iter().find(|(other, _)| *other == ftype).cloned();
        let mut is_temporary = false;
        let base = if let Some(file) = source.gguf_file() {
            let ftype = Gguf::open(file)?.u32("general.file_type").and_then(Ftype::from_id);
            (ftype.unwrap_or(kind), file.to_owned())
        } else if let Some(output) = lossless(Ftype::F32).or_else(|| lossless(kind)) {
            output
        } else {
            is_temporary = true;
            let name = format!(".{}-{kind}.eval-base.gguf", source.name().replace(['/', '\\'], "-"));
            let path = outputs.first().map_or_else(|| PathBuf::from(&name), |(_, first)| first.with_file_name(&name));
            // A killed process left it; a streaming conversion that resumes has another name for it.
            let _ = fs::remove_file(&path);
            outputs.push((kind, path.clone()));
            (kind, path)
        };
        let n_max = n_max.map(|n| n as usize);
        Ok(Self { corpus, n_max, settings: settings.check()?, base, is_temporary, made: Vec::new() })
    }

    /// Returns a line about the base, for the plan.
    pub(super) fn note(&self) -> Option<String> {
        self.is_temporary
            .then(|| format!("the {} file is the base of the evaluation and is deleted at the end", self.base.0))
    }

    /// Writes `--output-tensor-type` and `--token-embedding-type` as patterns, which llama.cpp applies only to quantized mixes,
    /// so that the temporary base keeps these tensors.
    pub(super) fn keep_base(&self, outputs: &[(Ftype, PathBuf)], recipe: &mut QuantizeOptions) {
        let is_quantized = |ftype: Ftype| !matches!(ftype, Ftype::F32 | Ftype::F16 | Ftype::BF16);
        let all = || outputs.iter().filter(|(_, path)| *path != self.base.1);
        if self.is_temporary && all().all(|(ftype, _)| is_quantized(*ftype)) {
            let output = recipe.output.take().map(|kind| ("^output\\.weight".to_owned(), kind));
            let embedding = recipe.token_embedding.take().map(|kind| ("^token_embd\\.weight".to_owned(), kind));
            recipe.overrides.splice(0..0, output.into_iter().chain(embedding));
        }
    }

    /// Evaluates the finished files of `plan`, and takes the base out of the plan if it is temporary. With `record`, writes
    /// the results to the files. Returns type and result of each.
    pub(super) fn run(
        &mut self,
        plan: &mut Plan,
        record: bool,
        interrupt: &Interrupt,
    ) -> Result<Vec<(Ftype, EvalRecord)>, Failure> {
        let (kind, base) = &self.base;
        let mut base = base.clone();
        if self.is_temporary {
            let (made, kept) = plan.outputs.drain(..).partition(|output| output.ftype == *kind);
            plan.outputs = kept;
            let made: Vec<tulu_quantize::OutputPlan> = made;
            self.made = made.into_iter().map(|output| output.path).collect();
            base = self.made.first().cloned().unwrap_or(base);
        }
        let first_parts = || plan.outputs.iter().filter(|output| output.part.is_none_or(|(number, _)| number == 1));
        let files: Vec<(Ftype, PathBuf)> = first_parts().map(|output| (output.ftype, output.path.clone())).collect();
        if let Some((_, first)) =
            files.iter().find(|(ftype, path)| ftype == kind && !self.is_temporary && *path != base)
        {
            // The lossless output is split: its first part is the base.
            if !base.is_file() {
                base = first.clone();
            }
        }
        let records = self.evaluate(&base, &files, interrupt).map_err(|failure| match failure.code {
            Code::Interrupted => {
                Failure { fix: "the files are complete; `tulu-quant eval` evaluates them".to_owned(), ..failure }
            }
            _ => failure,
        })?;
        if record {
            for ((_, path), (_, result)) in files.iter().zip(&records) {
                write(path, result, interrupt)?;
            }
            for output in &mut plan.outputs {
                output.len = fs::metadata(&output.path).map_or(output.len, |found| found.len());
            }
        }
        Ok(records)
    }

    fn evaluate(
        &self,
        base: &Path,
        files: &[(Ftype, PathBuf)],
        interrupt: &Interrupt,
    ) -> Result<Vec<(Ftype, EvalRecord)>, Failure> {
        let job = Job {
            corpus: &self.corpus,
            n_ctx: CHUNK as usize,
            n_max: self.n_max,
            base_file: None,
            encoding: Encoding::default(),
            with_speed: false,
            folder: None,
            interrupt,
        };
        let paths = files.iter().map(|(_, path)| path.clone()).collect();
        let evaluated = evaluate_files(base.to_owned(), paths, &self.settings, &job)?;
        stderr::block(&evaluated.report.table());
        let report = &evaluated.report;
        let whole = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let result = |(ftype, path): &(Ftype, PathBuf)| {
            // A file that is the base is in the report once, as the base.
            let entry = report.entries.iter().find(|entry| entry.path == *path).or(report.entries.first())?;
            let distance = entry.divergence.as_ref().map(|divergence| {
                let [_, _, p99, _] = divergence.kl_percentiles;
                let kl = [divergence.kl.value, divergence.kl.error, divergence.kl_median, p99, divergence.kl_max];
                let same_top = divergence.same_top.value as f32;
                Distance { base: self.base.0.name().to_owned(), kl: kl.map(|value| value as f32), same_top }
            });
            let ppl = entry.perplexity.ppl;
            Some((
                *ftype,
                EvalRecord {
                    text: report.text.clone(),
                    text_sha256: report.text_sha256.clone(),
                    chunks: whole(report.n_chunks),
                    context: whole(report.n_ctx),
                    ppl: [ppl.value as f32, ppl.error as f32],
                    distance,
                },
            ))
        };
        let records = files.iter().filter_map(result).collect();
        evaluated.finish()?;
        Ok(records)
    }
}

/// Writes a result to the metadata of the file at `path`.
fn write(path: &Path, result: &EvalRecord, interrupt: &Interrupt) -> Result<(), Failure> {
    let file = Gguf::open(path)?;
    let mut pairs: Vec<_> = file.pairs.iter().filter(|(key, _)| !is_eval_key(key)).cloned().collect();
    pairs.extend(result.pairs());
    let watch = Watch::new("recording", file.tensor_bytes(), interrupt);
    let replaced = replace_pairs(&file, &pairs, &watch);
    watch.clear();
    replaced.map_err(|err| {
        let failure = Failure::from(err);
        Failure { exit: interrupt.asked().unwrap_or(failure.exit), ..failure }
    })?;
    stderr::line(&format!("Recorded the results in {} ({})", shown(path), table::bytes(file.len)));
    Ok(())
}

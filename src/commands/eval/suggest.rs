//! `--suggest`: finds types for groups of tensors such that the file has at most a given size. Each group alone is evaluated in
//! each type; the types with the least sum of divergences are converted and evaluated as a whole, beside the largest mix of
//! llama.cpp that fits.

use super::args::Args;
use super::by_tensor::swaps;
use super::candidates::{Candidate, candidates};
use super::evaluate::{Evaluated, Job, evaluate};
use super::inputs;
use super::temporary;
use super::work_folder::WorkFolder;
use crate::engine::EngineSettings;
use crate::error::{Code, Failure};
use crate::eval::{Choice, GroupBy, allocate, tensor_pattern};
use crate::model::streaming::CheckpointSource;
use crate::stderr;
use crate::table;
use std::path::{Path, PathBuf};
use tulu_quantize::{Checkpoint, Ftype, GgmlType, Plan, QuantizeOptions};

/// The types that groups get, from the smallest: with `--pure`, the mix has only this type.
const LEVELS: [(Ftype, GgmlType); 6] = [
    (Ftype::Q2_K, GgmlType::Q2_K),
    (Ftype::Q3_K_S, GgmlType::Q3_K),
    (Ftype::Q4_K_S, GgmlType::Q4_K),
    (Ftype::Q5_K_S, GgmlType::Q5_K),
    (Ftype::Q6_K, GgmlType::Q6_K),
    (Ftype::Q8_0, GgmlType::Q8_0),
];
/// Mixes of llama.cpp that the proposal is compared with.
const MIXES: [Ftype; 10] = [
    Ftype::Q2_K,
    Ftype::Q3_K_S,
    Ftype::Q3_K_M,
    Ftype::Q3_K_L,
    Ftype::Q4_K_S,
    Ftype::Q4_K_M,
    Ftype::Q5_K_S,
    Ftype::Q5_K_M,
    Ftype::Q6_K,
    Ftype::Q8_0,
];

/// What is proposed, and what it is compared with.
pub(super) struct Suggestion {
    /// The results of both.
    pub(super) evaluated: Evaluated,
    /// The models of the results.
    pub(super) candidates: Vec<Candidate>,
    /// The command that converts to the better one.
    pub(super) command: String,
    /// Pattern and type of each group that does not have the main type.
    pub(super) rules: Vec<(String, GgmlType)>,
    /// The sum of the divergences of the groups.
    pub(super) expected: f64,
    /// Whether a mix of llama.cpp was better.
    pub(super) mix_is_better: bool,
    /// The folder of the models.
    pub(super) _folder: WorkFolder,
}

/// Measures, chooses and tests.
pub(super) fn suggest(
    args: &Args,
    bytes_max: u64,
    settings: &EngineSettings,
    job: &Job<'_>,
) -> Result<Suggestion, Failure> {
    let (name, opened) = inputs::open(args, "--suggest", job.interrupt)?;
    let recipe = inputs::recipe(args, name, &opened, job.interrupt)?;
    let folder = WorkFolder::create()?;
    let pure = QuantizeOptions { pure: true, ..recipe.clone() };
    let levels = levels(opened.checkpoint(), bytes_max, &pure)?;
    let (base, files) = convert(&opened, &levels, &pure, &folder, job)?;
    let job = Job { folder: Some(folder.path()), ..*job };
    let measured = measure(&base, &files, settings, &Job { with_speed: false, ..job })?;
    // The weights of a remote checkpoint are not fetched again.
    let opened = match opened.remote_name() {
        Some(_) => Checkpoint::open_gguf(&base, true)?.into(),
        None => opened,
    };
    let chosen = choose(&measured, &levels, bytes_max, opened.checkpoint(), &recipe)?;
    let mut made =
        temporary::convert(&opened, &[chosen.ftype], &chosen.recipe, (&folder, "-suggested"), job.interrupt)?;
    let mix = largest_mix(opened.checkpoint(), bytes_max, &recipe)?;
    if let Some(mix) = mix {
        made.extend(temporary::convert(&opened, &[mix], &recipe, (&folder, ""), job.interrupt)?);
    }
    let mut candidates = candidates(Some(base), made, settings, &[], &[])?;
    candidates.iter_mut().for_each(|one| one.is_temporary = one.path.starts_with(folder.path()));
    let evaluated = evaluate(&job, &candidates)?;
    let kl = |index: usize| {
        let entry = evaluated.report.entries.get(index)?;
        Some(entry.divergence.as_ref()?.kl.value)
    };
    let mix_is_better = kl(2).zip(kl(1)).is_some_and(|(mix, own)| mix <= own);
    let mut command = format!("tulu-quant convert {}", quoted(&name.to_string_lossy()));
    match mix.filter(|_| mix_is_better) {
        Some(mix) => command += &format!(" -q {mix}"),
        None => {
            command += &format!(" -q {} --pure", chosen.ftype);
            for (pattern, kind) in &chosen.rules {
                command += &format!(" --tensor-type {}", quoted(&format!("{pattern}={kind}")));
            }
        }
    }
    if let Some(imatrix) = &args.imatrix {
        command += &format!(" --imatrix {}", quoted(&imatrix.to_string_lossy()));
    }
    Ok(Suggestion {
        evaluated,
        candidates,
        command,
        rules: chosen.rules,
        expected: chosen.expected,
        mix_is_better,
        _folder: folder,
    })
}

/// Returns the levels near the size: one below the largest that fits, and two above it.
fn levels(source: &Checkpoint, bytes_max: u64, pure: &QuantizeOptions) -> Result<Vec<(Ftype, GgmlType)>, Failure> {
    let size = |(ftype, _): &(Ftype, GgmlType)| planned_bytes(source, *ftype, pure);
    let sizes: Vec<u64> = LEVELS.iter().map(size).collect::<Result<_, Failure>>()?;
    let Some(fits) = sizes.iter().rposition(|size| *size <= bytes_max) else {
        let what = format!("no file is that small: with Q2_K for all matrices it has {}", table::bytes(sizes[0]));
        return Err(Failure::input(Code::Request, what, "give a larger --suggest"));
    };
    Ok(LEVELS[fits.saturating_sub(1)..(fits + 3).min(LEVELS.len())].to_vec())
}

/// Returns the bytes of the file of a type.
fn planned_bytes(source: &Checkpoint, ftype: Ftype, recipe: &QuantizeOptions) -> Result<u64, Failure> {
    Ok(Plan::new(source, &[(ftype, PathBuf::from("planned.gguf"))], recipe)?.output_bytes())
}

/// Converts to all levels in one pass, with the base if the source is no GGUF file. Returns the base and the files.
fn convert(
    opened: &CheckpointSource,
    levels: &[(Ftype, GgmlType)],
    pure: &QuantizeOptions,
    folder: &WorkFolder,
    job: &Job<'_>,
) -> Result<(PathBuf, Vec<PathBuf>), Failure> {
    let own = opened.checkpoint().gguf_file().map(Path::to_owned);
    let base_type = own.is_none().then(|| temporary::base_type(opened.checkpoint()));
    let types: Vec<Ftype> = base_type.into_iter().chain(levels.iter().map(|(ftype, _)| *ftype)).collect();
    let mut files = temporary::convert(opened, &types, pure, (folder, "-pure"), job.interrupt)?;
    Ok(match own {
        Some(own) => (own, files),
        None => (files.remove(0), files),
    })
}

/// The groups with their choices.
struct Measured {
    /// Name and choices of each group; the choices are in the order of the levels.
    groups: Vec<(String, Vec<Choice>)>,
    /// Bytes of the rest of a file.
    rest: u64,
}

/// Evaluates each group in each level.
fn measure(base: &Path, files: &[PathBuf], settings: &EngineSettings, job: &Job<'_>) -> Result<Measured, Failure> {
    let folder = job.folder.unwrap_or(Path::new(""));
    let mut all = candidates(Some(base.to_owned()), Vec::new(), settings, &[], &[])?;
    let Some(base) = all.first().cloned() else { return Ok(Measured { groups: Vec::new(), rest: 0 }) };
    let mut level_of = Vec::new();
    for (level, file) in files.iter().enumerate() {
        let swaps = swaps(&base, file, GroupBy::Kind, folder)?;
        level_of.extend(swaps.iter().map(|_| level));
        all.extend(swaps);
    }
    let evaluated = evaluate(job, &all)?;
    let mut groups: Vec<(String, Vec<Choice>)> = Vec::new();
    for (level, entry) in level_of.iter().zip(&evaluated.report.groups) {
        let index = groups.iter().position(|(name, _)| *name == entry.group.name).unwrap_or_else(|| {
            // A level whose type is that of the base changes nothing.
            let unchanged = Choice { bytes: entry.group.base_bytes, kl: 0.0 };
            groups.push((entry.group.name.clone(), vec![unchanged; files.len()]));
            groups.len() - 1
        });
        groups[index].1[*level] = Choice { bytes: entry.group.bytes, kl: entry.divergence.kl.value };
    }
    evaluated.finish()?;
    let first: u64 = groups.iter().filter_map(|(_, choices)| choices.first()).map(|choice| choice.bytes).sum();
    let len = files.first().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
    Ok(Measured { groups, rest: len.saturating_sub(first) })
}

/// The proposal.
struct Chosen {
    ftype: Ftype,
    recipe: QuantizeOptions,
    rules: Vec<(String, GgmlType)>,
    expected: f64,
}

/// Chooses the types, and checks with the plan of the conversion that the file fits.
fn choose(
    measured: &Measured,
    levels: &[(Ftype, GgmlType)],
    bytes_max: u64,
    source: &Checkpoint,
    recipe: &QuantizeOptions,
) -> Result<Chosen, Failure> {
    let choices: Vec<Vec<Choice>> = measured.groups.iter().map(|(_, choices)| choices.clone()).collect();
    let mut left = bytes_max.saturating_sub(measured.rest);
    loop {
        let Some((chosen, expected)) = allocate(&choices, left) else {
            let what = format!("no choice of types fits into {}", table::bytes(bytes_max));
            return Err(Failure::input(Code::Request, what, "give a larger --suggest"));
        };
        let bytes_of = |level: usize| {
            let of = |(index, choices): (&usize, &Vec<Choice>)| if *index == level { choices[level].bytes } else { 0 };
            chosen.iter().zip(&choices).map(of).sum::<u64>()
        };
        let main = (0..levels.len()).max_by_key(|level| bytes_of(*level)).unwrap_or(0);
        let named = measured.groups.iter().zip(&chosen).filter(|(_, level)| **level != main);
        let rules: Vec<(String, GgmlType)> =
            named.filter_map(|((name, _), level)| Some((tensor_pattern(name)?.to_owned(), levels[*level].1))).collect();
        let recipe = QuantizeOptions { pure: true, overrides: rules.clone(), ..recipe.clone() };
        let ftype = levels[main].0;
        let bytes = planned_bytes(source, ftype, &recipe)?;
        if bytes <= bytes_max {
            stderr::line(&format!(
                "Chose types for {} of {}; the sum of their KL divergences is {expected:.5}",
                table::count(measured.groups.len(), "group", "groups"),
                table::bytes(bytes)
            ));
            return Ok(Chosen { ftype, recipe, rules, expected });
        }
        left = left.saturating_sub(bytes - bytes_max);
    }
}

/// Returns the largest mix that fits.
fn largest_mix(source: &Checkpoint, bytes_max: u64, recipe: &QuantizeOptions) -> Result<Option<Ftype>, Failure> {
    let mut best: Option<(u64, Ftype)> = None;
    for mix in MIXES {
        let bytes = planned_bytes(source, mix, recipe)?;
        if bytes <= bytes_max && best.is_none_or(|(largest, _)| bytes > largest) {
            best = Some((bytes, mix));
        }
    }
    Ok(best.map(|(_, mix)| mix))
}

/// Quotes an argument for a shell, if it needs that.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

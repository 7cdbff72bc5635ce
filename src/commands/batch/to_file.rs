//! A run whose results go to a file: journal → model → run → output → manifest. After a kill, the same command resumes
//! it. After it has finished, the same command only prints a note.

use super::command::BatchCommand;
use super::summary::{self, Summary};
use crate::batch::identity::Identity;
use crate::batch::paths::exists;
use crate::batch::{Defaults, Journal, Manifest, RecordSink as _, check_unchanged, find_finished, output_exists};
use crate::clock;
use crate::engine::Model;
use crate::error::{Code, Exit, Failure};
use crate::model;
use crate::sanitize::shown;
use crate::stderr::note;
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

/// Answers the records that are not finished yet, and writes `output` and its manifest.
pub(super) fn run(command: &BatchCommand<'_>, output: &Path) -> Result<Exit, Failure> {
    let args = command.args;
    let mut journal = Journal::open(output, args.restart)?;
    let finished = if journal.is_new() && !args.force && exists(output)? {
        if args.restart {
            return Err(output_exists(output, ""));
        }
        Some(find_finished(output, &command.index, command.options.shard)?)
    } else {
        None
    };
    let model_file = command.resolve_model()?;
    let mut identity = command.identity(&model_file)?;
    if let Some(manifest) = finished {
        return nothing_to_do(command, output, &identity, &manifest);
    }
    if identity.window.is_none() && !args.retry_errors {
        identity.window = journal.n_ctx();
    }
    journal.resume(&identity, &command.index, args.retry_errors)?;
    let started = clock::now();
    let hash = model::FullHash::start(&model_file, &command.interrupt);
    let mut summary = Summary { total: command.total(), resumed: journal.len(), ..Summary::default() };
    let mut engine = None;
    if summary.resumed < summary.total {
        engine = Some(answer_rest(command, &model_file, &mut identity, &mut journal, &mut summary)?);
    } else {
        identity.window = identity.window.or(journal.n_ctx());
        note_resumed(&summary);
    }
    summary.totals = journal.totals();
    let shard = command.options.shard;
    let numbers = (1..).zip(&command.index.keys).filter(|(number, _)| shard.has(*number));
    let written = journal.assemble(command.options.format, numbers.map(|(_, key)| *key))?;
    if !hash.is_done() {
        note("the output is complete; the model's sha256 for the manifest is being computed");
    }
    let sha256 = hash.wait();
    if let (None, Some(exit)) = (&sha256, command.interrupt.asked()) {
        let what = "the output is complete, and its manifest is not written";
        let fix = format!("write it with: {}", summary::command_line());
        return Err(Failure { exit, ..Failure::input(Code::Interrupted, what, fix) });
    }
    let model = (model_file.as_path(), sha256);
    summary::manifest(command, output, &summary, &written, &identity, model, (engine, started)).write(output)?;
    // Keep the journal while records failed: --retry-errors needs it.
    if summary.totals.failed == 0 {
        journal.remove()?;
    }
    summary.print(&written);
    if args.json {
        crate::stdout::print(&format!("{}\n", summary.json(output)))?;
    }
    Ok(if summary.totals.failed > 0 { Exit::Partial } else { Exit::Done })
}

/// Loads the model and answers the records that are not in the journal. Returns the engine's settings, for the
/// manifest.
fn answer_rest(
    command: &BatchCommand<'_>,
    model_file: &Path,
    identity: &mut Identity,
    journal: &mut Journal,
    summary: &mut Summary,
) -> Result<Value, Failure> {
    let began = Instant::now();
    let mut defaults = command.options.defaults(identity);
    let model = load(command, model_file, identity, journal, &defaults)?;
    identity.window = Some(model.n_ctx());
    journal.begin(identity, &command.index, command.args.retry_errors)?;
    note_damage(journal.damage());
    summary.resumed = journal.len();
    note_resumed(summary);
    if summary.resumed < summary.total {
        let answered = command.answer(&model, &mut defaults, journal);
        let saved = "finished records are saved; run the same command to resume";
        let (stats, stopped) = answered.inspect_err(|_| note(saved))?;
        if let Some(exit) = stopped {
            let what = format!("stopped with {} of {} records finished", journal.len(), summary.total);
            let fix = format!("resume with: {}", summary::command_line());
            return Err(Failure { exit, ..Failure::input(Code::Interrupted, what, fix) });
        }
        summary.stats = stats;
    }
    summary.seconds = began.elapsed().as_secs_f64();
    Ok(summary::engine(&model))
}

/// Loads the model. A resumed run has the context size of the first run.
fn load(
    command: &BatchCommand<'_>,
    model_file: &Path,
    identity: &Identity,
    journal: &Journal,
    defaults: &Defaults,
) -> Result<Model, Failure> {
    let loaded = command.load(model_file, identity.window, defaults, journal);
    let from_journal =
        command.options.engine.n_ctx.is_none() && journal.n_ctx().is_some() && !command.args.retry_errors;
    loaded.map_err(|failure| match failure.code {
        Code::Memory if from_journal => {
            let fix = "resume on the machine where the run began, or give --restart and a smaller -c".to_owned();
            Failure { what: format!("{}; the run began with this context size", failure.what), fix, ..failure }
        }
        _ => failure,
    })
}

/// Reports that the output is finished, if nothing has changed since.
fn nothing_to_do(
    command: &BatchCommand<'_>,
    output: &Path,
    identity: &Identity,
    manifest: &Manifest,
) -> Result<Exit, Failure> {
    check_unchanged(output, manifest, identity)?;
    let total = command.total();
    note(&format!("{} is finished: all {total} records are finished already", shown(output)));
    if command.args.json {
        let summary = Summary { total, resumed: total, ..Summary::default() };
        crate::stdout::print(&format!("{}\n", summary.json(output)))?;
    }
    Ok(Exit::Done)
}

fn note_resumed(summary: &Summary) {
    if summary.resumed > 0 {
        note(&format!("resuming: {} of {} records are done", summary.resumed, summary.total));
    }
}

fn note_damage((torn, damaged): (u64, u64)) {
    if torn > 0 {
        note(&format!("dropped an incomplete record ({torn} bytes) from the end of the journal"));
    }
    if damaged > 0 {
        note(&format!("skipped {damaged} damaged lines of the journal; their records are answered again"));
    }
}

//! A run whose results go to stdout: model → run → summary. There is no journal, so it cannot be resumed.

use super::command::BatchCommand;
use super::summary::Summary;
use crate::batch::{RecordSink as _, RunStats, StdoutSink};
use crate::error::{Code, Exit, Failure};
use crate::stderr::note;
use std::time::Instant;

/// Answers all records and writes the results to stdout.
pub(super) fn run(command: &BatchCommand<'_>) -> Result<Exit, Failure> {
    let model_file = command.resolve_model()?;
    let identity = command.identity(&model_file)?;
    let mut defaults = command.options.defaults(&identity);
    let mut sink = StdoutSink::new(std::io::stdout(), command.options.format, command.options.shard);
    let (began, total) = (Instant::now(), command.total());
    let mut stats = RunStats::default();
    if total > 0 {
        let model = command.load(&model_file, identity.window, &defaults, &sink)?;
        let (done, stopped) = command.answer(&model, &mut defaults, &mut sink)?;
        match stopped {
            Some(Exit::Done) => return Ok(Exit::Done),
            Some(exit) => {
                let what = format!("stopped with {} of {total} records finished", sink.len());
                let fix = "run it again; with -o FILE a run can be resumed";
                return Err(Failure { exit, ..Failure::input(Code::Interrupted, what, fix) });
            }
            None => stats = done,
        }
    }
    let mut summary = Summary { total, stats, seconds: began.elapsed().as_secs_f64(), ..Summary::default() };
    summary.totals.failed = sink.failed();
    for record in sink.finish()? {
        note(&format!("not answered: {record}"));
    }
    summary.print_figures();
    Ok(if summary.totals.failed > 0 { Exit::Partial } else { Exit::Done })
}

//! A run whose results go to a file: journal → model → run → output → manifest. Killed anywhere, the same command goes on
//! with it; when it has finished, the same command finds nothing to do.

use super::job::{Job, engine};
use super::summary::{self, Ending};
use crate::batch::files::exists;
use crate::batch::identity::Identity;
use crate::batch::{Journal, Manifest, RecordSink as _, sha256_of};
use crate::clock;
use crate::commands::load;
use crate::engine::Model;
use crate::error::{Code, Exit, Failure};
use crate::model;
use crate::sanitize::shown;
use crate::stderr::note;
use serde_json::Value;
use std::path::Path;
use std::time::Instant;

impl Job<'_> {
    pub(super) fn to_file(&self, output: &Path) -> Result<Exit, Failure> {
        let mut journal = Journal::open(output, self.args.restart)?;
        let there = journal.is_new() && !self.args.force && exists(output)?;
        let finished = if there { Some(self.finished(output)?) } else { None };
        let model_file = load::resolve(Some(self.model), &self.settings, &self.args.hub, &self.interrupt)?;
        let mut identity = self.identity(&model_file)?;
        if let Some(manifest) = finished {
            return self.nothing_to_do(output, &identity, &manifest);
        }
        if identity.window.is_none() && !self.args.retry_errors {
            identity.window = journal.window();
        }
        journal.resume(&identity, &self.contents, self.args.retry_errors)?;
        let started = clock::now();
        let hash = model::FullHash::start(&model_file, &self.interrupt);
        let mut ending = Ending { total: self.total(), resumed: journal.len(), ..Ending::default() };
        let mut used = None;
        if ending.resumed < ending.total {
            used = self.go_on(&model_file, &mut identity, &mut journal, &mut ending)?;
        } else {
            identity.window = identity.window.or(journal.window());
            if ending.resumed > 0 {
                going_on(&ending);
            }
        }
        ending.sums = journal.sums();
        let numbers = (1..).zip(&self.contents.keys).filter(|(number, _)| self.shard.has(*number));
        let written = journal.assemble(self.format, numbers.map(|(_, key)| *key))?;
        if !hash.is_done() {
            note("the output is complete; the model's sha256 for the manifest is being computed");
        }
        let sha256 = hash.wait();
        if let (None, Some(exit)) = (&sha256, self.interrupt.asked()) {
            let what = "the output is complete, and its manifest is not written";
            let fix = format!("write it with: {}", summary::command_line());
            return Err(Failure { exit, ..Failure::input(Code::Interrupted, what, fix) });
        }
        summary::manifest(self, output, &ending, &written, &identity, (&model_file, sha256), (used, started))
            .write(output)?;
        // While something failed, the journal is what --retry-errors goes by.
        if ending.sums.failed == 0 {
            journal.remove()?;
        }
        ending.say(&written);
        if self.args.json {
            crate::stdout::print(&format!("{}\n", ending.json(output)))?;
        }
        Ok(if ending.sums.failed > 0 { Exit::Partial } else { Exit::Done })
    }

    /// Loads the model and answers what the journal lacks; gives the engine's side of the manifest.
    fn go_on(
        &self,
        model_file: &Path,
        identity: &mut Identity,
        journal: &mut Journal,
        ending: &mut Ending,
    ) -> Result<Option<Value>, Failure> {
        let began = Instant::now();
        let mut defaults = self.defaults(identity)?;
        let model = self.load_again(model_file, identity, journal, &defaults)?;
        identity.window = Some(model.n_ctx());
        journal.begin(identity, &self.contents, self.args.retry_errors)?;
        say_damage(journal.damage());
        ending.resumed = journal.len();
        if ending.resumed > 0 {
            going_on(ending);
        }
        if ending.resumed < ending.total {
            let answered = self.answer(&model, &mut defaults, journal);
            let kept = "what is finished is kept; the same command goes on with it";
            let (tally, stopped) = answered.inspect_err(|_| note(kept))?;
            if let Some(exit) = stopped {
                let what = format!("stopped with {} of {} records finished", journal.len(), ending.total);
                let fix = format!("go on with: {}", summary::command_line());
                return Err(Failure { exit, ..Failure::input(Code::Interrupted, what, fix) });
            }
            ending.tally = tally;
        }
        ending.seconds = began.elapsed().as_secs_f64();
        Ok(Some(engine(&model)))
    }

    /// Loads the model with the window that the run began with.
    fn load_again(
        &self,
        model_file: &Path,
        identity: &Identity,
        journal: &Journal,
        defaults: &crate::batch::Defaults,
    ) -> Result<Model, Failure> {
        let loaded = self.load(model_file, identity.window, defaults, journal);
        let kept = self.settings.n_ctx.is_none() && journal.window().is_some() && !self.args.retry_errors;
        loaded.map_err(|failure| match failure.code {
            Code::Memory if kept => {
                let fix = "go on where the run began, or give --restart and a smaller -c".to_owned();
                Failure { what: format!("{}; the run began with this window", failure.what), fix, ..failure }
            }
            _ => failure,
        })
    }

    /// The manifest of an output that is there, if it can be that of this command: the cheap half of the comparison.
    fn finished(&self, output: &Path) -> Result<Manifest, Failure> {
        let manifest = match Manifest::find(output) {
            Err(failure) if failure.code == Code::Manifest => None,
            other => other?,
        };
        let manifest = manifest.filter(|_| !self.args.restart).ok_or_else(|| is_there(output, ""))?;
        let input = &manifest.input;
        if (&input.sha256, input.records) != (&self.contents.sha256, self.contents.len()) {
            return Err(is_there(output, ", of another input"));
        }
        if manifest.output.failed > 0 || manifest.shard != self.shard.part() {
            return Err(is_there(output, ", of another run"));
        }
        Ok(manifest)
    }

    /// The same command again: says so, if it is the same.
    fn nothing_to_do(&self, output: &Path, identity: &Identity, manifest: &Manifest) -> Result<Exit, Failure> {
        let differs = identity.differences(&manifest.identity());
        if !differs.is_empty() {
            return Err(is_there(output, &format!(", and {} changed since", differs.join(" and "))));
        }
        if sha256_of(output)? != manifest.output.sha256 {
            return Err(is_there(output, ", and not as its run wrote it"));
        }
        let total = self.total();
        note(&format!("{} is finished: all {total} records were answered by this command before", shown(output)));
        if self.args.json {
            let ending = Ending { total, resumed: total, ..Ending::default() };
            crate::stdout::print(&format!("{}\n", ending.json(output)))?;
        }
        Ok(Exit::Done)
    }
}

fn is_there(output: &Path, why: &str) -> Failure {
    let fix = "give another -o, or --force to replace it";
    Failure::input(Code::OutputExists, format!("is there already{why}"), fix).at(output)
}

fn going_on(ending: &Ending) {
    note(&format!("going on after {} of {} records", ending.resumed, ending.total));
}

fn say_damage((torn, damaged): (u64, u64)) {
    if torn > 0 {
        note(&format!("{torn} bytes of a record that was not finished were dropped from the journal"));
    }
    if damaged > 0 {
        note(&format!("{damaged} damaged lines of the journal were skipped; their records are answered anew"));
    }
}

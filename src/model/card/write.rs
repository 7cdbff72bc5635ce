//! Collects the facts of the card, and writes it next to the files.

use super::facts::{Card, CardFile, GENERATED_BY, specials};
use super::licence::{Licence, licence_files};
use crate::atomic_file::{self, Mode};
use crate::engine::ModelDims;
use crate::error::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::model::eval_record::EvalRecord;
use crate::model::fingerprint::sha256_of_file;
use crate::model::hub::RepoId;
use crate::model::registry;
use crate::prompt::{self, Message, Role};
use std::path::{Path, PathBuf};
use tulu_quantize::{Checkpoint, Ftype, Plan};

/// Returns the path of the card: next to the first output.
///
/// # Errors
/// `OUTPUT_EXISTS` for a README.md that this program did not write, without `force`.
pub(crate) fn place(plan: &Plan, force: bool) -> Result<PathBuf, Failure> {
    let path = plan.outputs.first().map_or(Path::new("README.md").to_owned(), |o| o.path.with_file_name("README.md"));
    let written = match std::fs::read(&path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(path),
        Err(err) => return Err(Failure::io(&path, "cannot read the file", &err)),
        Ok(bytes) => bytes,
    };
    if force || written.windows(GENERATED_BY.len()).any(|part| part == GENERATED_BY.as_bytes()) {
        return Ok(path);
    }
    let fix = "move it away, pass --force to replace it, or leave --card out";
    Err(Failure::input(Code::OutputExists, "exists and was not written by this program", fix).at(path))
}

/// Writes the card of the finished files of `plan`, atomically. `results` are those of an evaluation.
pub(crate) fn write(
    path: &Path,
    source: &Checkpoint,
    plan: &Plan,
    results: &[(Ftype, EvalRecord)],
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let files = plan.outputs.iter().map(|output| {
        let weights = plan.tensor_bytes(output.ftype);
        #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
        let bits_per_weight = weights as f64 * 8.0 / plan.n_params.max(1) as f64;
        Ok(CardFile {
            ftype: output.ftype,
            name: output.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: output.len,
            bits_per_weight,
            memory: ModelDims::of(&source.config, weights).memory_with_defaults(),
            sha256: sha256(&output.path, interrupt)?,
        })
    });
    let files = files.collect::<Result<Vec<_>, Failure>>()?;
    let repo = source.provenance.repository.as_deref().and_then(RepoId::parse);
    let entry = repo.as_ref().and_then(registry::find_repo);
    let card = Card {
        source,
        n_params: plan.n_params,
        licence: Licence::of(entry.as_ref(), &source.dir)?,
        licence_files: licence_files(&source.dir)?,
        repo,
        entry,
        files,
        results,
        prompts: prompts(source)?,
        has_system: writes_system(source),
    };
    atomic_file::write(path, card.text().as_bytes(), Mode::Umask)
}

/// Returns the SHA-256 of a finished file.
fn sha256(path: &Path, interrupt: &Interrupt) -> Result<String, Failure> {
    let hash = sha256_of_file(path, interrupt).map_err(|err| Failure::io(path, "cannot read the file", &err))?;
    hash.ok_or_else(|| {
        let failure = Failure::interrupted();
        Failure { exit: interrupt.asked().unwrap_or(failure.exit), ..failure }
    })
}

fn prompts(source: &Checkpoint) -> Result<[String; 2], Failure> {
    let question = || Message::new(Role::User, "Hello");
    let answer = Message::new(Role::Assistant, "Hi! How can I help?");
    let render = |messages: &[Message]| prompt::shown(source.chat_template.as_deref(), specials(source), messages);
    Ok([render(&[question()])?, render(&[question(), answer, Message::new(Role::User, "Tell me a story.")])?])
}

fn writes_system(source: &Checkpoint) -> bool {
    let messages = [Message::new(Role::System, "Be brief."), Message::new(Role::User, "Hello")];
    let shown = prompt::shown(source.chat_template.as_deref(), specials(source), &messages);
    shown.is_ok_and(|text| text.contains("Be brief."))
}

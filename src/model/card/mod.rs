//! The model card: a README.md beside converted files, fit to be published with them as it is. What it says of files is
//! measured, what it says of a source is what the source itself or the family's table says; what is not known is said to be
//! so. The words are in `text.rs`, licences in `licence.rs`.

mod licence;
mod text;

use super::hub::RepoId;
use super::registry::{self, Entry};
use crate::atomic_file::{self, Mode};
use crate::engine::ModelDims;
use crate::error::{Code, Failure};
use crate::hex::hex;
use crate::interrupt::Interrupt;
use crate::prompt::{self, Message, Role};
use licence::Licence;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tulu_quantize::{Checkpoint, Ftype, Plan};

/// Tells a card that this program wrote from one that somebody wrote.
const MARK: &str = "<!-- written by tulu-quant convert --card; with this line it is replaced by the next one -->";

/// Where the card goes: beside the first output. One that somebody else wrote is not replaced unless `force` says so.
pub(crate) fn place(plan: &Plan, force: bool) -> Result<PathBuf, Failure> {
    let path = plan.outputs.first().map_or(Path::new("README.md").to_owned(), |o| o.path.with_file_name("README.md"));
    let written = match std::fs::read(&path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(path),
        Err(err) => return Err(Failure::io(&path, "cannot read the file", &err)),
        Ok(bytes) => bytes,
    };
    if force || written.windows(MARK.len()).any(|part| part == MARK.as_bytes()) {
        return Ok(path);
    }
    let fix = "move it away, pass --force to replace it, or leave --card out";
    Err(Failure::input(Code::OutputExists, "exists, and was not written by this program", fix).at(path))
}

/// One of the files the card is about.
struct Made {
    ftype: Ftype,
    name: String,
    bytes: u64,
    bits_per_weight: f64,
    /// To run it with the whole window.
    memory: u64,
    sha256: String,
}

/// Everything the card says.
struct Card<'a> {
    source: &'a Checkpoint,
    n_params: u64,
    repo: Option<RepoId>,
    entry: Option<Entry>,
    licence: Licence,
    /// Names of licence and notice files that came with the checkpoint.
    papers: Vec<String>,
    files: Vec<Made>,
    /// A question as the model reads it, and a conversation of two.
    prompts: [String; 2],
    /// Whether the template writes system messages.
    has_system: bool,
}

/// Writes the card of the finished files of `plan`, whole or not at all.
pub(crate) fn write(path: &Path, source: &Checkpoint, plan: &Plan, interrupt: &Interrupt) -> Result<(), Failure> {
    let files = plan.outputs.iter().map(|output| {
        let weights = output.sizes.iter().sum::<u64>();
        #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
        let bits_per_weight = weights as f64 * 8.0 / plan.n_params.max(1) as f64;
        Ok(Made {
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
    let entry = repo.as_ref().and_then(registry::of_repo);
    let card = Card {
        source,
        n_params: plan.n_params,
        licence: Licence::of(entry.as_ref(), &source.dir)?,
        papers: licence::papers(&source.dir)?,
        repo,
        entry,
        files,
        prompts: prompts(source)?,
        has_system: writes_system(source),
    };
    atomic_file::write(path, card.text().as_bytes(), Mode::Umask)
}

fn sha256(path: &Path, interrupt: &Interrupt) -> Result<String, Failure> {
    let io = |err: std::io::Error| Failure::io(path, "cannot read the file", &err);
    let mut file = File::open(path).map_err(io)?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        if let Some(exit) = interrupt.asked() {
            return Err(Failure { exit, ..Failure::interrupted() });
        }
        match file.read(&mut block).map_err(io)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&block[..n]),
        }
    }
}

/// The special tokens' texts.
fn specials(source: &Checkpoint) -> [&str; 2] {
    let text = |id: u32| source.tokenizer.tokens.get(id as usize).map_or("", |token| token.text.as_str());
    [text(source.tokenizer.bos), text(source.tokenizer.eos)]
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

//! Saved conversations: readable JSON (who said what, the settings, which model), and beside it the KV cache (`kv.rs`), so
//! that going on costs a second instead of reading everything again. The JSON is enough: without the KV cache, or with
//! another model, only the reading takes longer.

use super::conversation::Conversation;
use super::kv_file::{self, KvIdentity};
use super::parameters::{Parameters, Stored};
use super::typed_path;
use crate::atomic_file::{self, Mode};
use crate::engine::{Model, Token};
use crate::error::{Code, Failure};
use crate::hex::hex;
use crate::prompt::{Message, Role};
use crate::sanitize::one_line;
use crate::stderr;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirEntry};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What `format` says in every file.
const FORMAT: &str = "tulu-quant conversation";
/// Raised when an older program could not read the file rightly.
const VERSION: u32 = 1;
/// A longer file is no conversation.
const MAX_BYTES: u64 = 256 << 20;

/// A saved conversation, read and checked.
#[derive(Debug)]
pub(crate) struct Saved {
    path: PathBuf,
    /// Its first question.
    pub(crate) title: String,
    /// Where the model was.
    pub(crate) model: PathBuf,
    fingerprint: String,
    template: String,
    /// How answers were made.
    pub(crate) parameters: Parameters,
    start: usize,
    messages: Vec<Message>,
}

/// How [`Conversation::restore`] went.
#[derive(Debug)]
pub(crate) struct Restored {
    /// Tokens in the cache, or why there are none; `None`: the conversation was saved without.
    pub(crate) cached: Option<Result<usize, String>>,
    /// What else the user should know.
    pub(crate) notes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    version: u32,
    title: String,
    /// Seconds since 1970.
    saved_at: u64,
    model: ModelDocument,
    settings: Stored,
    /// Messages before this one, the system message excepted, no longer fitted into the window.
    #[serde(default)]
    first_sent: usize,
    messages: Vec<MessageDocument>,
}

#[derive(Serialize, Deserialize)]
struct ModelDocument {
    file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    fingerprint: String,
    template_sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageDocument {
    role: String,
    content: String,
    /// The ids the model generated for `content`, in one string, so that they take one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<String>,
}

/// Where conversations are kept that are saved under a plain name; the folder may not be there yet.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    crate::model::app_dirs::conversations_dir()
}

/// The file that `name` means: a path as it is (it has a separator, or ends in .json), else a name in [`folder`].
pub(crate) fn file(name: &str) -> Result<PathBuf, Failure> {
    let path = typed_path::parse(name);
    let is_path = path.components().count() > 1
        || name.starts_with(['.', '~'])
        || path.extension().is_some_and(|ending| ending == "json")
        || path.is_absolute();
    Ok(if is_path { path } else { folder()?.join(format!("{}.json", path.display())) })
}

/// The names in [`folder`], sorted.
pub(super) fn names() -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = entries()?.into_iter().map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

/// The newest conversation in [`folder`].
pub(crate) fn newest() -> Result<PathBuf, Failure> {
    let newest = entries()?.into_iter().max_by_key(|(_, entry)| entry.metadata().and_then(|file| file.modified()).ok());
    newest.map(|(_, entry)| entry.path()).ok_or_else(|| {
        let what = "no conversation was kept yet";
        Failure::input(Code::Conversation, what, "leave out --continue to begin one")
    })
}

/// The conversations in [`folder`] by name. Where there is no folder there are none.
fn entries() -> Result<Vec<(String, DirEntry)>, Failure> {
    let folder = folder()?;
    let failed = |err: std::io::Error| Failure::io(&folder, "cannot list the saved conversations", &err);
    let entries = match fs::read_dir(&folder) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?,
    };
    let named = |entry: DirEntry| Some((entry.file_name().to_str()?.strip_suffix(".json")?.to_owned(), entry));
    Ok(entries.into_iter().filter_map(named).collect())
}

/// The KV cache that belongs to a conversation.
pub(super) fn kv_file(path: &Path) -> PathBuf {
    path.with_extension("kv")
}

/// Knows a model file again: its size, and a hash of its metadata and samples of its weights.
fn fingerprint(model: &Model) -> Result<String, Failure> {
    let known = crate::model::fingerprint(model.path())?;
    Ok(format!("{}-{}", known["bytes"], known["sha256_of_samples"].as_str().unwrap_or_default()))
}

fn template_hash(model: &Model) -> String {
    let template = model.chat_template().unwrap_or_default();
    hex(&Sha256::digest(template))
}

/// The first line of the first question, short.
fn title(messages: &[Message]) -> String {
    let first = messages.iter().find(|message| message.role == Role::User);
    let line = first.and_then(|message| message.content.lines().find(|line| !line.trim().is_empty()));
    line.unwrap_or_default().trim().chars().take(72).collect()
}

impl Conversation<'_> {
    /// Writes the conversation to `path` and its KV cache beside it. The answer is the size of the latter, or why it could
    /// not be written; `None` when there was nothing to write.
    pub(super) fn save(&self, path: &Path) -> Result<Option<Result<u64, Failure>>, Failure> {
        atomic_file::write(path, self.text()?.as_bytes(), Mode::Owner)?;
        let identity = KvIdentity::new(self.fingerprint()?.to_owned(), self.model.settings());
        Ok(kv_file::save(&self.decoder, &identity, &kv_file(path)).transpose())
    }

    /// The conversation as it is written to a file.
    pub(super) fn text(&self) -> Result<String, Failure> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let full = fs::canonicalize(self.model.path()).unwrap_or_else(|_| self.model.path().to_owned());
        let document = Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            title: title(&self.messages),
            saved_at: now.map_or(0, |since| since.as_secs()),
            model: ModelDocument {
                file: full.display().to_string(),
                name: self.model.name(),
                fingerprint: self.fingerprint()?.to_owned(),
                template_sha256: template_hash(self.model),
            },
            settings: Stored::from(&self.parameters),
            first_sent: self.start,
            messages: self.messages.iter().map(MessageDocument::from).collect(),
        };
        let mut text = serde_json::to_string_pretty(&document)
            .map_err(|err| Failure::engine(Code::Defect, err.to_string(), "report this"))?;
        text.push('\n');
        Ok(text)
    }

    /// The model's fingerprint, computed once.
    fn fingerprint(&self) -> Result<&str, Failure> {
        match self.fingerprint.get() {
            Some(known) => Ok(known),
            None => fingerprint(self.model).map(|found| self.fingerprint.get_or_init(|| found).as_str()),
        }
    }

    /// Goes on with `saved` instead of the conversation there is, under `parameters`.
    pub(crate) fn restore(&mut self, saved: Saved, parameters: Parameters) -> Result<Restored, Failure> {
        let mut notes = Vec::new();
        let fingerprint = self.fingerprint()?.to_owned();
        if fingerprint != saved.fingerprint {
            notes.push(format!("it was saved with another model: {}", saved.model.display()));
        } else if template_hash(self.model) != saved.template {
            notes.push("the model's chat template is another one than when it was saved".to_owned());
        }
        self.messages = saved.messages.into_iter().map(|message| self.with_valid_ids(message)).collect();
        self.start = saved.start;
        self.parameters = parameters;
        let kv = kv_file(&saved.path);
        let identity = KvIdentity::new(fingerprint, self.model.settings());
        // Only what is not there is no file: one that cannot be looked at is said.
        let there = !matches!(fs::metadata(&kv), Err(err) if err.kind() == ErrorKind::NotFound);
        let cached = there.then(|| kv_file::load(&mut self.decoder, &identity, &kv));
        Ok(Restored { cached, notes })
    }

    /// The message, with its ids only if they spell its text in this model's vocabulary: the text may have been edited. A
    /// control token spells nothing, so ids that hold one are left out, or a file could put `</s>` into an answer.
    fn with_valid_ids(&self, mut message: Message) -> Message {
        let vocab = self.model.vocab();
        message.generated = message.generated.filter(|ids| {
            let known = |id: &Token| (0..vocab.len()).contains(&id.0) && !vocab.piece(*id).is_empty();
            ids.iter().all(known) && ids.iter().flat_map(|id| vocab.piece(*id)).eq(message.content.bytes())
        });
        message
    }
}

impl Saved {
    /// Reads the conversation at `path`. What is wrong with it is said before a model is loaded.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::input(Code::Conversation, what, "give a file that /save wrote").at(path);
        let about = fs::metadata(path).map_err(|err| Failure::io(path, "cannot open the conversation", &err))?;
        if !about.is_file() || about.len() > MAX_BYTES {
            return Err(wrong("is not a saved conversation".to_owned()));
        }
        let bytes = fs::read(path).map_err(|err| Failure::io(path, "cannot read the conversation", &err))?;
        let document: Document = serde_json::from_slice(&bytes).map_err(|err| {
            let text = String::from_utf8_lossy(&bytes);
            let what = if text.contains(FORMAT) { "damaged" } else { "no saved conversation" };
            wrong(format!("is {what}: {err}"))
        })?;
        if document.format != FORMAT {
            return Err(wrong("is not a saved conversation".to_owned()));
        }
        if document.version > VERSION {
            return Err(wrong("was saved by a newer tulu-quant".to_owned()));
        }
        let messages = document.messages.into_iter().enumerate();
        let messages: Vec<Message> = messages
            .map(|(i, message)| message.read().map_err(|why| wrong(format!("message {}: {why}", i + 1))))
            .collect::<Result<_, _>>()?;
        check_order(&messages).map_err(wrong)?;
        let start = document.first_sent;
        if start > 0 && messages.get(start).is_none_or(|message| message.role != Role::User) {
            return Err(wrong(format!("first_sent is {start}, where no turn begins")));
        }
        Ok(Self {
            path: path.to_owned(),
            title: one_line(&document.title),
            model: document.model.file.into(),
            fingerprint: document.model.fingerprint,
            template: document.model.template_sha256,
            parameters: document.settings.parameters().map_err(|failure| failure.at(path))?,
            start,
            messages,
        })
    }

    /// Turns that it holds.
    pub(crate) fn turns(&self) -> usize {
        self.messages.iter().filter(|message| message.role == Role::User).count()
    }
}

impl Restored {
    /// Says on stderr what will take longer than expected, and why.
    pub(crate) fn warn(&self, file: &Path) {
        let unused = self.cached.as_ref().and_then(|cached| cached.as_ref().err());
        let unused = unused.map(|why| format!("its KV cache is not used ({why}): it is read again"));
        for text in self.notes.iter().chain(&unused) {
            stderr::note(&format!("{}: {text}", file.display()));
        }
    }
}

/// A conversation that can go on: a system message first if at all, then questions and answers by turns.
fn check_order(messages: &[Message]) -> Result<(), String> {
    let rest = messages.iter().enumerate().skip_while(|(i, message)| *i == 0 && message.role == Role::System);
    for ((i, message), wanted) in rest.zip([Role::User, Role::Assistant].into_iter().cycle()) {
        if message.role != wanted {
            return Err(format!(
                "message {} is of the {} instead of the {}",
                i + 1,
                message.role.name(),
                wanted.name()
            ));
        }
    }
    match messages.last() {
        Some(message) if message.role == Role::User => Err("the last message has no answer".to_owned()),
        _ => Ok(()),
    }
}

impl From<&Message> for MessageDocument {
    fn from(message: &Message) -> Self {
        let ids = |ids: &Vec<Token>| ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(" ");
        Self {
            role: message.role.name().to_owned(),
            content: message.content.clone(),
            ids: message.generated.as_ref().map(ids),
        }
    }
}

impl MessageDocument {
    fn read(self) -> Result<Message, String> {
        let role = Role::named(&self.role).ok_or("its role is not system, user or assistant")?;
        let Some(ids) = self.ids.filter(|_| role == Role::Assistant) else {
            return Ok(Message::new(role, self.content));
        };
        let ids: Result<Vec<Token>, _> = ids.split_whitespace().map(|id| id.parse().map(Token::new)).collect();
        Ok(Message::answer(self.content, ids.map_err(|_| "its ids are not numbers")?))
    }
}

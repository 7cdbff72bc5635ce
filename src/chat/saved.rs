//! Saved conversations: readable JSON (messages, settings, model) and, next to it, the KV cache (`decode/kv_file.rs`), so that
//! a resumed conversation need not be processed again. The JSON is sufficient: without the KV cache, or with another
//! model, resuming only takes longer.

use super::conversation::Conversation;
use super::parameters::{Parameters, Stored};
use super::saved_files::kv_path;
use crate::atomic_file::{self, Mode};
use crate::decode::kv_file::{self, KvIdentity};
use crate::engine::{Model, Token};
use crate::error::{Code, Failure};
use crate::prompt::{Message, Role};
use crate::sanitize::one_line;
use crate::stderr;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tulu_quantize::hex;

/// The value of `format` in every file.
const FORMAT: &str = "tulu-quant conversation";
/// Format version; raised on incompatible changes.
const VERSION: u32 = 1;
/// The slot of the conversation.
const SLOT: usize = 0;
/// Limit on the size of a file.
const MAX_BYTES: u64 = 256 << 20;

/// A saved conversation, read and checked.
#[derive(Debug)]
pub(crate) struct Saved {
    path: PathBuf,
    /// The beginning of its first message.
    pub(crate) title: String,
    /// The path of its model.
    pub(crate) model: PathBuf,
    fingerprint: String,
    template: String,
    /// Its settings.
    pub(crate) parameters: Parameters,
    start: usize,
    messages: Vec<Message>,
}

/// The result of [`Conversation::restore`], for notes.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The number of tokens restored from the KV cache file, or why the file is not used; `None` if there is no such
    /// file.
    pub(crate) cached: Option<Result<usize, String>>,
    /// Notes for the user.
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
    /// Index of the first message that was still sent after the system message. Earlier messages were dropped.
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
    /// The ids that the model generated for `content`, joined in one string, so that they take one line of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<String>,
}

/// Identifies a model file: its size, and a hash of its metadata and samples of its weights.
fn fingerprint(model: &Model) -> Result<String, Failure> {
    let known = crate::model::fingerprint(model.path())?;
    Ok(format!("{}-{}", known["bytes"], known["sha256_of_samples"].as_str().unwrap_or_default()))
}

fn template_hash(model: &Model) -> String {
    let template = model.chat_template().unwrap_or_default();
    hex(&Sha256::digest(template))
}

/// Returns the first line of the first message, shortened.
fn title(messages: &[Message]) -> String {
    let first = messages.iter().find(|message| message.role == Role::User);
    let line = first.and_then(|message| message.content.lines().find(|line| !line.trim().is_empty()));
    line.unwrap_or_default().trim().chars().take(72).collect()
}

impl Conversation<'_> {
    /// Writes the conversation to `path`, and its KV cache next to it. Returns the size of the KV cache file, or the
    /// error that prevented it; `None` if the KV cache is empty.
    pub(super) fn save(&self, path: &Path) -> Result<Option<Result<u64, Failure>>, Failure> {
        atomic_file::write(path, self.text()?.as_bytes(), Mode::Owner)?;
        let identity = KvIdentity::new(self.fingerprint()?.to_owned(), self.model.settings());
        Ok(kv_file::save(&self.decoder, SLOT, &identity, &kv_path(path)).transpose())
    }

    /// Returns the conversation as JSON.
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

    /// Returns the fingerprint of the model, computed once.
    fn fingerprint(&self) -> Result<&str, Failure> {
        match self.fingerprint.get() {
            Some(known) => Ok(known),
            None => fingerprint(self.model).map(|found| self.fingerprint.get_or_init(|| found).as_str()),
        }
    }

    /// Replaces the conversation by `saved`, and its parameters by `parameters`.
    pub(crate) fn restore(&mut self, saved: Saved, parameters: Parameters) -> Result<Restored, Failure> {
        let mut notes = Vec::new();
        let fingerprint = self.fingerprint()?.to_owned();
        if fingerprint != saved.fingerprint {
            notes.push(format!("it was saved with another model: {}", saved.model.display()));
        } else if template_hash(self.model) != saved.template {
            notes.push("the chat template of the model has changed since it was saved".to_owned());
        }
        self.messages = saved.messages.into_iter().map(|message| self.with_valid_ids(message)).collect();
        self.start = saved.start;
        self.parameters = parameters;
        let kv = kv_path(&saved.path);
        let identity = KvIdentity::new(fingerprint, self.model.settings());
        // Only a missing file is skipped; any other error is reported.
        let there = !matches!(fs::metadata(&kv), Err(err) if err.kind() == ErrorKind::NotFound);
        let cached = there.then(|| kv_file::load(&mut self.decoder, SLOT, &identity, &kv));
        Ok(Restored { cached, notes })
    }

    /// Keeps the ids of a message only if they decode to its text with this vocabulary, because the text may have been
    /// edited. Special tokens have no text, so ids with one are dropped; otherwise a file could put `</s>` into an
    /// answer.
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
    /// Reads and checks the conversation at `path`.
    ///
    /// # Errors
    /// `CONVERSATION` for a file that `/save` did not write, or `IO`.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::input(Code::Conversation, what, "give a file that /save wrote").at(path);
        let about = fs::metadata(path).map_err(|err| Failure::io(path, "cannot open the conversation", &err))?;
        if !about.is_file() || about.len() > MAX_BYTES {
            return Err(wrong("is not a saved conversation".to_owned()));
        }
        let bytes = fs::read(path).map_err(|err| Failure::io(path, "cannot read the conversation", &err))?;
        let document: Document = serde_json::from_slice(&bytes).map_err(|err| {
            let text = String::from_utf8_lossy(&bytes);
            let what = if text.contains(FORMAT) { "damaged" } else { "not a saved conversation" };
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
            return Err(wrong(format!("first_sent is {start}, which is not a message of the user")));
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

    /// Returns the number of turns.
    pub(crate) fn turns(&self) -> usize {
        self.messages.iter().filter(|message| message.role == Role::User).count()
    }
}

impl Restored {
    /// Prints the notes to stderr, and the reason why the KV cache is not used.
    pub(crate) fn warn(&self, file: &Path) {
        let unused = self.cached.as_ref().and_then(|cached| cached.as_ref().err());
        let unused = unused.map(|why| format!("its KV cache is not used ({why}); the conversation is processed again"));
        for text in self.notes.iter().chain(&unused) {
            stderr::note(&format!("{}: {text}", file.display()));
        }
    }
}

/// Checks that a conversation can be continued: an optional system message, then messages of user and assistant in
/// turn.
fn check_order(messages: &[Message]) -> Result<(), String> {
    let rest = messages.iter().enumerate().skip_while(|(i, message)| *i == 0 && message.role == Role::System);
    for ((i, message), wanted) in rest.zip([Role::User, Role::Assistant].into_iter().cycle()) {
        if message.role != wanted {
            return Err(format!("message {} has the role {} instead of {}", i + 1, message.role.name(), wanted.name()));
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
        let role = Role::from_name(&self.role).ok_or("its role is not system, user or assistant")?;
        let Some(ids) = self.ids.filter(|_| role == Role::Assistant) else {
            return Ok(Message::new(role, self.content));
        };
        let ids: Result<Vec<Token>, _> = ids.split_whitespace().map(|id| id.parse().map(Token::new)).collect();
        Ok(Message::answer(self.content, ids.map_err(|_| "its ids are not numbers")?))
    }
}

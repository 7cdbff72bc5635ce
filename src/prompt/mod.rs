//! From messages to the ids a Tulu model reads: `message` (what is said), `template` (Jinja as Transformers runs it),
//! `render` (one conversation, control tokens told from content), `tokens` (llama.cpp's tokenizer).
//!
//! llama.cpp's own `apply_chat_template` is never used: it takes Tulu's template for another model's. Content can write no
//! control token; Tulu's role tags (`<|user|>`) are plain text to the model, so content that holds one passes unchanged.

mod dialect;
mod jinja_functions;
mod message;
mod render;
mod template;
mod template_check;
mod tokenize;

pub(crate) use message::{Message, Role, conversation, conversations};
pub(crate) use template_check::check_template;

use crate::engine::{Token, Vocab};
use crate::error::Failure;
use render::Templates;
use template::Template;
use tokenize::Tokenizer;

/// Everything that turns conversations into prompts for one model.
pub(crate) struct Prompts<'m> {
    templates: Templates,
    tokenizer: Tokenizer<'m>,
    /// Whether the model has a template of its own.
    has_own: bool,
}

/// A conversation as the model reads it.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// The text, without the BOS that the tokenizer adds.
    pub(crate) text: String,
    /// The ids, with it.
    pub(crate) ids: Vec<Token>,
    /// Something the user should know, for stderr.
    pub(crate) notice: Option<&'static str>,
}

/// Said when the model's template has no place for a system message.
const SWITCHED: &str =
    "the model's chat template leaves out system messages; Tulu's own template, otherwise the same, is used";

/// Said when the model has no chat template.
const NO_TEMPLATE: &str = "the model has no chat template; Tulu's is used";

impl<'m> Prompts<'m> {
    /// `template`: the model's own; without one, Tulu's. Of the model, only the vocabulary has to be loaded.
    pub(crate) fn new(vocab: Vocab<'m>, template: Option<&str>) -> Result<Self, Failure> {
        let tokenizer = Tokenizer::new(vocab);
        let own = template.map(|source| Template::new(source, tokenizer.special_tokens_map())).transpose()?;
        let tulu = Template::tulu(tokenizer.special_tokens_map())?;
        Ok(Self { has_own: own.is_some(), templates: Templates { own, tulu }, tokenizer })
    }

    /// A conversation as the model reads it; with `add_generation_prompt`, up to the tag after which it answers.
    pub(crate) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Prompt, Failure> {
        let rendered = self.templates.render(messages, add_generation_prompt, self.tokenizer.special_tokens())?;
        let ids = self.tokenizer.encode(&rendered.segments)?;
        let notice = match (self.has_own, rendered.switched) {
            (false, _) => Some(NO_TEMPLATE),
            (true, switched) => switched.then_some(SWITCHED),
        };
        Ok(Prompt { text: rendered.text, ids, notice })
    }

    /// Tokenizer that texts of so many bytes have at least. It takes no time, where llama.cpp takes minutes for some megabytes.
    pub(crate) fn at_least(&self, bytes: usize) -> usize {
        self.tokenizer.min_tokens(bytes)
    }

    /// A prompt that is rendered already, for completion. What reads as a control token is one, as in vLLM, llama-server and
    /// Transformers. BOS comes before it, unless `add_bos` says no; a notice says where there are two then.
    pub(crate) fn rendered(&self, text: &str, add_bos: bool) -> Result<(Vec<Token>, Option<&'static str>), Failure> {
        let ids = self.tokenizer.encode_rendered(text, add_bos)?;
        let twice = self.tokenizer.has_double_bos(&ids);
        Ok((ids, twice.then_some(tokenize::DOUBLE_BOS)))
    }

    /// A prompt of ids, which the vocabulary must have.
    pub(crate) fn checked(&self, ids: &[Token]) -> Result<Vec<Token>, Failure> {
        self.tokenizer.check_ids(ids)
    }
}

/// The text of a conversation up to where the model answers, by the template given or else Tulu's, for people to read:
/// without a model, and without telling control tokens from content. `specials`: the texts of BOS and EOS.
pub(crate) fn shown(template: Option<&str>, specials: [&str; 2], messages: &[Message]) -> Result<String, Failure> {
    let [bos, eos] = specials.map(str::to_owned);
    let specials = template::SpecialTokensMap { bos, eos, ..Default::default() };
    let template = match template {
        Some(source) => Template::new(source, specials)?,
        None => Template::tulu(specials)?,
    };
    template.render(messages, true)
}

#[cfg(test)]
mod tests;

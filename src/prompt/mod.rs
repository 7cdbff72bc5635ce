//! Turns messages into token ids. `message`: messages and their JSON. `template`: Jinja as in Transformers. `render`: a
//! conversation to text, with special tokens separated from content. `tokenize`: text to ids with llama.cpp's
//! tokenizer.
//!
//! llama.cpp's own `apply_chat_template` is never used, because it mistakes Tulu's template for another model's.
//! Content cannot produce special tokens. Tulu's role tags (`<|user|>`) are plain text to the tokenizer, so content may
//! contain them.

mod dialect;
mod jinja_functions;
mod message;
mod render;
mod template;
mod template_check;
mod tokenize;

pub(crate) use message::{Message, Role, conversation, conversations};
pub(crate) use template_check::check_template;

use crate::engine::{Grammar, Token, Vocab};
use crate::error::Failure;
use render::Templates;
use template::Template;
use tokenize::Tokenizer;

/// Turns conversations into prompts for one model.
pub(crate) struct Prompts<'m> {
    templates: Templates,
    tokenizer: Tokenizer<'m>,
    /// Whether the model has its own template.
    has_own: bool,
    /// Whether the template writes Tulu's tags.
    is_tulu: bool,
}

/// The prompt of a conversation.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// The text, without the BOS that the tokenizer adds.
    pub(crate) text: String,
    /// The ids, with BOS.
    pub(crate) ids: Vec<Token>,
    /// A notice for the user, to print on stderr.
    pub(crate) notice: Option<&'static str>,
}

/// Notice when the model's template drops system messages.
const SWITCHED: &str =
    "the model's chat template drops system messages; using Tulu's own template, which is the same otherwise";

/// Notice when the model's template is not one of the family.
const OTHER: &str = "the model's own chat template is used, which is not one of the Tulu family";

/// The system message of Ai2's demonstration of Tulu 3. The models were trained without a particular one.
const TULU_3_SYSTEM: &str = "You are Tulu 3, a helpful and harmless AI Assistant built by the Allen Institute for AI.";

/// Returns the system message for the text that a user gave: `tulu3` stands for the one of Ai2's demonstration.
pub(crate) fn system_message(given: &str) -> &str {
    if given.eq_ignore_ascii_case("tulu3") { TULU_3_SYSTEM } else { given }
}

/// Notice when the model has no chat template.
const NO_TEMPLATE: &str = "the model has no chat template; using Tulu's own template";

impl<'m> Prompts<'m> {
    /// Compiles the model's own `template`, or Tulu's. Only the vocabulary of the model has to be loaded.
    ///
    /// # Errors
    /// `TEMPLATE` when it does not compile.
    pub(crate) fn new(vocab: Vocab<'m>, template: Option<&str>) -> Result<Self, Failure> {
        let tokenizer = Tokenizer::new(vocab);
        let own = template.map(|source| Template::new(source, tokenizer.special_tokens_map())).transpose()?;
        let tulu = Template::tulu(tokenizer.special_tokens_map())?;
        let is_tulu = own.as_ref().is_none_or(writes_tags);
        Ok(Self { has_own: own.is_some(), is_tulu, templates: Templates { own, tulu }, tokenizer })
    }

    /// Returns whether prompts have Tulu's tags (`<|user|>`), which a model of the family may write instead of ending
    /// its turn.
    pub(crate) fn is_tulu(&self) -> bool {
        self.is_tulu
    }

    /// Renders and tokenizes a conversation. With `add_generation_prompt`, the prompt ends with the tag that starts the
    /// answer.
    pub(crate) fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Prompt, Failure> {
        let rendered = self.templates.render(messages, add_generation_prompt, self.tokenizer.special_tokens())?;
        let ids = self.tokenizer.encode(&rendered.segments)?;
        let notice = match (self.has_own, rendered.switched) {
            (false, _) => Some(NO_TEMPLATE),
            (true, true) => Some(SWITCHED),
            (true, false) => (!self.is_tulu).then_some(OTHER),
        };
        Ok(Prompt { text: rendered.text, ids, notice })
    }

    /// Returns a lower bound on the number of tokens of texts with `bytes` bytes. It is immediate; tokenizing megabytes
    /// takes minutes.
    pub(crate) fn at_least(&self, bytes: usize) -> usize {
        self.tokenizer.min_tokens(bytes)
    }

    /// Tokenizes a rendered prompt, for raw completion. The texts of special tokens become special tokens, as in vLLM,
    /// llama-server and Transformers. `add_bos` adds BOS; if the prompt then has two, returns a notice.
    pub(crate) fn rendered(&self, text: &str, add_bos: bool) -> Result<(Vec<Token>, Option<&'static str>), Failure> {
        let ids = self.tokenizer.encode_rendered(text, add_bos)?;
        let twice = self.tokenizer.has_double_bos(&ids);
        Ok((ids, twice.then_some(tokenize::DOUBLE_BOS)))
    }

    /// Tokenizes plain text: special tokens in it are only text. `add_bos` adds BOS.
    pub(crate) fn plain(&self, text: &str, add_bos: bool) -> Result<Vec<Token>, Failure> {
        self.tokenizer.encode_plain(text, add_bos)
    }

    /// Compiles a grammar for the model's vocabulary.
    ///
    /// # Errors
    /// `GRAMMAR`.
    pub(crate) fn grammar(&self, text: &str) -> Result<Grammar, Failure> {
        self.tokenizer.grammar(text)
    }

    /// Checks that all `ids` are in the vocabulary.
    ///
    /// # Errors
    /// `TOKEN_ID`.
    pub(crate) fn checked(&self, ids: &[Token]) -> Result<Vec<Token>, Failure> {
        self.tokenizer.check_ids(ids)
    }
}

/// Returns whether a template writes Tulu's tags around a question.
fn writes_tags(template: &Template) -> bool {
    let question = [Message::new(Role::User, "Hello")];
    template.render(&question, true).is_ok_and(|text| text.contains("<|user|>") && text.contains("<|assistant|>"))
}

/// Renders a conversation with its generation prompt as text for people, with `template` or Tulu's. Needs no model, and
/// does not separate special tokens from content. `specials` are the texts of BOS and EOS.
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

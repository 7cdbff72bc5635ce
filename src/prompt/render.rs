//! Renders a conversation: chooses the template, separates its special tokens from message text by masking, and checks
//! that no message is dropped.
//!
//! Only the template may write special tokens. To find them, the conversation is rendered a second time with masked
//! messages: every character that occurs in a special token is replaced by a private-use code point. A special token in
//! this rendering was written by the template. After unmasking, both renderings must be equal. If they differ, the
//! template's output depends on the masked characters, and rendering fails.

use super::message::{Message, Role};
use super::template::Template;
use super::tokenize::{Segment, SpecialToken};
use crate::error::{Code, Failure};
use std::collections::{BTreeMap, BTreeSet};

/// The templates of a model.
pub(crate) struct Templates {
    /// The model's own template, if it has one.
    pub(crate) own: Option<Template>,
    /// Tulu's template.
    pub(crate) tulu: Template,
}

/// A rendered conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The text as Transformers renders it.
    pub(crate) text: String,
    /// The same text, split at special tokens.
    pub(crate) segments: Vec<Segment>,
    /// Whether Tulu's template was used because the model's drops system messages.
    pub(crate) switched: bool,
}

impl Templates {
    /// Renders `messages`; `special_tokens` are those of the vocabulary, longest first.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        special_tokens: &[SpecialToken],
    ) -> Result<Rendered, Failure> {
        let own = match &self.own {
            Some(own) if self.writes_all(own, messages, add_generation_prompt)? => Some(own),
            _ => None,
        };
        let template = own.unwrap_or(&self.tulu);
        let text = template.render(messages, add_generation_prompt)?;
        let segments = split(template, messages, add_generation_prompt, special_tokens, &text)?;
        Ok(Rendered { text, segments, switched: self.own.is_some() && own.is_none() })
    }

    /// Returns whether `own` writes every message. Returns false, so that Tulu's template is used, if `own` drops or
    /// rejects only system messages, as the Hub's Tulu template does, and otherwise renders exactly Tulu's format.
    /// Anything else is an error.
    fn writes_all(&self, own: &Template, messages: &[Message], add_generation_prompt: bool) -> Result<bool, Failure> {
        let (system, others): (Vec<_>, Vec<_>) = messages.iter().cloned().partition(|m| m.role == Role::System);
        let refusal = match dropped_message(own, messages, add_generation_prompt) {
            Ok(None) => return Ok(true),
            Ok(Some(dropped)) => {
                let what = format!("the model's chat template drops message {}", dropped + 1);
                Failure::input(Code::TemplateDropsMessage, what, "put its text into a message that the template writes")
            }
            Err(own_error) => own_error,
        };
        // With system messages only, there is nothing to compare, so a question is added.
        let rest = if others.is_empty() { vec![Message::new(Role::User, " ? ")] } else { others };
        let same = || {
            let ours = self.tulu.render(&rest, add_generation_prompt).ok()?;
            let theirs = own.render(&rest, add_generation_prompt).ok()?;
            let complete = dropped_message(own, &rest, add_generation_prompt).ok()?.is_none();
            Some(complete && ours == theirs)
        };
        if !system.is_empty() && same() == Some(true) {
            return Ok(false);
        }
        Err(refusal)
    }
}

/// Finds the first message whose content `template` does not write. Each message gets a different character as its
/// content.
fn dropped_message(
    template: &Template,
    messages: &[Message],
    add_generation_prompt: bool,
) -> Result<Option<usize>, Failure> {
    let mut masks = Masks::avoiding(template.source(), &[]);
    let placeholders: Vec<char> = messages.iter().map(|_| masks.fresh()).collect::<Result<_, _>>()?;
    let marked: Vec<Message> =
        messages.iter().zip(&placeholders).map(|(m, c)| Message::new(m.role, c.to_string())).collect();
    let written: BTreeSet<char> =
        unescape_masks(template.render(&marked, add_generation_prompt)?, placeholders.iter()).chars().collect();
    Ok(placeholders.iter().position(|c| !written.contains(c)))
}

/// Replaces escaped `masks` by the characters themselves. A template's `tojson(ensure_ascii=true)` writes such escapes.
fn unescape_masks<'m>(text: String, masks: impl Iterator<Item = &'m char>) -> String {
    // Such characters have the high surrogates DB80 to DBFF in UTF-16.
    if !text.contains("\\udb") {
        return text;
    }
    masks.fold(text, |text, mask| {
        let mut units = [0; 2];
        let escaped: String = mask.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        text.replace(&escaped, mask.encode_utf8(&mut [0; 4]))
    })
}

/// Splits `text`, the rendered `messages`, at the special tokens that the template wrote.
fn split(
    template: &Template,
    messages: &[Message],
    add_generation_prompt: bool,
    special_tokens: &[SpecialToken],
    text: &str,
) -> Result<Vec<Segment>, Failure> {
    let try_split = |keep_generated: bool| -> Result<Option<Vec<Segment>>, Failure> {
        let mut masks = Masks::avoiding(text, messages);
        let masked = masks.hide(messages, special_tokens, keep_generated)?;
        let masked = template.render(&masked, add_generation_prompt)?;
        let masked = unescape_masks(masked, masks.chars.keys().chain(masks.answers.keys()));
        Ok(masks.reveal(&masked, special_tokens, text))
    };
    // The ids of an answer cannot be kept if the template trims the answer, or writes no special token after it. Then
    // its text is tokenized.
    if messages.iter().any(|m| m.generated.is_some())
        && let Some(segments) = try_split(true)?
    {
        return Ok(segments);
    }
    try_split(false)?.ok_or_else(|| {
        Failure::input(
            Code::TemplateReadsText,
            "the output of the model's chat template depends on characters of special tokens in messages",
            "remove them from the messages",
        )
    })
}

/// Private-use characters, and the character or the answer that each stands for.
struct Masks<'a> {
    free: Box<dyn Iterator<Item = char>>,
    chars: BTreeMap<char, char>,
    answers: BTreeMap<char, &'a Message>,
}

impl<'a> Masks<'a> {
    /// Uses private-use characters that are neither in `text` nor in `messages`.
    fn avoiding(text: &str, messages: &[Message]) -> Self {
        let private = |c: &char| *c >= '\u{F0000}';
        let contents = messages.iter().flat_map(|m| m.content.chars());
        let used: BTreeSet<char> = text.chars().chain(contents).filter(private).collect();
        let all = ('\u{F0000}'..='\u{FFFFD}').chain('\u{100000}'..='\u{10FFFD}');
        Self {
            free: Box::new(all.filter(move |c| !used.contains(c))),
            chars: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    fn fresh(&mut self) -> Result<char, Failure> {
        self.free.next().ok_or_else(|| {
            Failure::input(Code::TextPrivateUse, "the messages use every private-use code point", "shorten them")
        })
    }

    /// Masks every character of the messages that occurs in a special token. With `keep_generated`, an answer with
    /// known ids becomes one character.
    fn hide(
        &mut self,
        messages: &'a [Message],
        special_tokens: &[SpecialToken],
        keep_generated: bool,
    ) -> Result<Vec<Message>, Failure> {
        let sensitive: BTreeSet<char> = special_tokens.iter().flat_map(|token| token.text.chars()).collect();
        let mut mask_of = BTreeMap::new();
        for c in sensitive {
            let mask = self.fresh()?;
            mask_of.insert(c, mask);
            self.chars.insert(mask, c);
        }
        let mut hidden = Vec::with_capacity(messages.len());
        for message in messages {
            let content = if keep_generated && message.generated.is_some() {
                let mask = self.fresh()?;
                self.answers.insert(mask, message);
                mask.to_string()
            } else {
                message.content.chars().map(|c| *mask_of.get(&c).unwrap_or(&c)).collect()
            };
            hidden.push(Message::new(message.role, content));
        }
        Ok(hidden)
    }

    /// Unmasks the text and splits it at special tokens. `None` if the result differs from `text`, or if an answer with
    /// kept ids is not followed by a special token: text after it would have to be tokenized together with it.
    fn reveal(&self, masked: &str, special_tokens: &[SpecialToken], text: &str) -> Option<Vec<Segment>> {
        let begins: BTreeSet<char> = special_tokens.iter().filter_map(|token| token.text.chars().next()).collect();
        let special = |rest: &str, first: char| {
            let begins = begins.contains(&first);
            special_tokens.iter().filter(|_| begins).find(|token| rest.starts_with(&token.text))
        };
        let mut segments = Vec::new();
        let mut plain = String::new();
        let mut revealed = String::with_capacity(text.len());
        let mut rest = masked;
        while let Some(c) = rest.chars().next() {
            let segment = if let Some(token) = special(rest, c) {
                rest = &rest[token.text.len()..];
                revealed.push_str(&token.text);
                Segment::Special(token.id)
            } else {
                rest = &rest[c.len_utf8()..];
                let Some(answer) = self.answers.get(&c) else {
                    let c = *self.chars.get(&c).unwrap_or(&c);
                    revealed.push(c);
                    plain.push(c);
                    continue;
                };
                revealed.push_str(&answer.content);
                Segment::Generated(answer.generated.clone().unwrap_or_default())
            };
            if !plain.is_empty() {
                segments.push(Segment::Text(std::mem::take(&mut plain)));
            }
            segments.push(segment);
        }
        if !plain.is_empty() {
            segments.push(Segment::Text(plain));
        }
        let continued =
            |pair: &[Segment]| matches!(pair, [Segment::Generated(_), next] if !matches!(next, Segment::Special(_)));
        (revealed == text && !segments.windows(2).any(continued)).then_some(segments)
    }
}

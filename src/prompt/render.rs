//! Conversation → prompt: which template speaks, which characters it wrote itself, and that no message gets lost.
//!
//! Only the template may write control tokens. To tell its `</s>` from one inside a message, the conversation is
//! rendered a second time with every character of the messages that could be part of a control token replaced by a
//! private one; what still reads as a control token was written by the template. Both renderings must be the same text,
//! else the template's logic depends on such characters and the prompt is refused.

use super::message::{Message, Role};
use super::template::Template;
use super::tokenize::{Segment, SpecialToken};
use crate::error::{Code, Failure};
use std::collections::{BTreeMap, BTreeSet};

/// A model's template and Tulu's own.
pub(crate) struct Templates {
    /// The model's template; `None` where it has none or it is Tulu's own.
    pub(crate) own: Option<Template>,
    /// Tulu's own.
    pub(crate) tulu: Template,
}

/// A rendered conversation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The text as Transformers renders it.
    pub(crate) text: String,
    /// The same text in stretches.
    pub(crate) segments: Vec<Segment>,
    /// The model's template has no place for the system message, so Tulu's own was used.
    pub(crate) switched: bool,
}

impl Templates {
    /// Renders `messages`; `special_tokens` are the vocabulary's control tokens, longest first.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        special_tokens: &[SpecialToken],
    ) -> Result<Rendered, Failure> {
        let own = match &self.own {
            Some(own) if self.shows_all(own, messages, add_generation_prompt)? => Some(own),
            _ => None,
        };
        let template = own.unwrap_or(&self.tulu);
        let text = template.render(messages, add_generation_prompt)?;
        let segments = split(template, messages, add_generation_prompt, special_tokens, &text)?;
        Ok(Rendered { text, segments, switched: self.own.is_some() && own.is_none() })
    }

    /// Whether `own` writes every message. It may leave out system messages, as the Hub's Tulu template does, if what it
    /// writes without them is exactly Tulu's format: then Tulu's own template says the whole. Anything else is an error.
    fn shows_all(&self, own: &Template, messages: &[Message], add_generation_prompt: bool) -> Result<bool, Failure> {
        let (system, others): (Vec<_>, Vec<_>) = messages.iter().cloned().partition(|m| m.role == Role::System);
        let refusal = match lost_message(own, messages, add_generation_prompt) {
            Ok(None) => return Ok(true),
            Ok(Some(lost)) => {
                let what = format!("the model's chat template leaves out message {}", lost + 1);
                Failure::input(Code::TemplateDropsMessage, what, "put its text into a message that the template writes")
            }
            Err(own_error) => own_error,
        };
        // With nothing but system messages there is nothing left to compare, so a question stands in.
        let rest = if others.is_empty() { vec![Message::new(Role::User, " ? ")] } else { others };
        let same = || {
            let ours = self.tulu.render(&rest, add_generation_prompt).ok()?;
            let theirs = own.render(&rest, add_generation_prompt).ok()?;
            let complete = lost_message(own, &rest, add_generation_prompt).ok()?.is_none();
            Some(complete && ours == theirs)
        };
        if !system.is_empty() && same() == Some(true) {
            return Ok(false);
        }
        Err(refusal)
    }
}

/// The first message whose content `template` does not write, found by giving each a character of its own.
fn lost_message(
    template: &Template,
    messages: &[Message],
    add_generation_prompt: bool,
) -> Result<Option<usize>, Failure> {
    let mut masks = Masks::avoiding(template.source(), &[]);
    let marks: Vec<char> = messages.iter().map(|_| masks.fresh()).collect::<Result<_, _>>()?;
    let marked: Vec<Message> =
        messages.iter().zip(&marks).map(|(m, mark)| Message::new(m.role, mark.to_string())).collect();
    let shown: BTreeSet<char> =
        literal(template.render(&marked, add_generation_prompt)?, marks.iter()).chars().collect();
    Ok(marks.iter().position(|mark| !shown.contains(mark)))
}

/// `text` with each of the private characters in `masks` as itself where a template's `tojson(ensure_ascii=true)` escaped it.
fn literal<'m>(text: String, masks: impl Iterator<Item = &'m char>) -> String {
    // The first half of the pair that such a character is in UTF-16, DB80 to DBFF.
    if !text.contains("\\udb") {
        return text;
    }
    masks.fold(text, |text, mask| {
        let mut units = [0; 2];
        let escaped: String = mask.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        text.replace(&escaped, mask.encode_utf8(&mut [0; 4]))
    })
}

/// Cuts `text`, which is `messages` rendered, at the control tokens that the template wrote.
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
        let masked = literal(masked, masks.chars.keys().chain(masks.answers.keys()));
        Ok(masks.reveal(&masked, special_tokens, text))
    };
    // Known ids cannot be kept where the template trims the answer or goes on without a control token; the plain text
    // is right there too.
    if messages.iter().any(|m| m.generated.is_some())
        && let Some(segments) = try_split(true)?
    {
        return Ok(segments);
    }
    try_split(false)?.ok_or_else(|| {
        Failure::input(
            Code::TemplateReadsText,
            "the model's chat template changes with characters of control tokens inside messages",
            "take them out of the messages",
        )
    })
}

/// Private characters standing for others.
struct Masks<'a> {
    free: Box<dyn Iterator<Item = char>>,
    chars: BTreeMap<char, char>,
    answers: BTreeMap<char, &'a Message>,
}

impl<'a> Masks<'a> {
    /// Private characters that neither `text` nor `messages` use.
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
            Failure::input(Code::TextPrivateUse, "the messages use up Unicode's private characters", "shorten them")
        })
    }

    /// The messages with every character that occurs in a control token masked and, if asked, each answer whose ids are
    /// known as one character.
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

    /// Takes the masks off and cuts at control tokens; `None` if the result is not `text`, or if a kept answer is not
    /// followed by a control token (then the text after it would not be tokenized as a continuation).
    fn reveal(&self, masked: &str, special_tokens: &[SpecialToken], text: &str) -> Option<Vec<Segment>> {
        let mut segments = Vec::new();
        let mut plain = String::new();
        let mut revealed = String::with_capacity(text.len());
        let mut rest = masked;
        while let Some(c) = rest.chars().next() {
            let segment = if let Some(token) = special_tokens.iter().find(|token| rest.starts_with(&token.text)) {
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

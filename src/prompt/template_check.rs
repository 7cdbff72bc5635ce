//! Checks a checkpoint's chat template before conversion.

use super::message::{Message, Role};
use super::render::Templates;
use super::template::{SpecialTokensMap, Template};
use super::tokenize::SpecialToken;
use crate::engine::Token;
use crate::error::Failure;
use tulu_quantize::Checkpoint;
use tulu_quantize::checkpoint::TokenKind;

/// Compiles the chat template of `source`, and renders a question, a question with a system message, and a
/// conversation. Returns notes about the last two, if they fail.
///
/// # Errors
/// The error for a question, or for a template that does not compile.
pub(crate) fn check_template(source: &Checkpoint) -> Result<Vec<String>, Failure> {
    let Some(template) = &source.chat_template else { return Ok(Vec::new()) };
    let place = |failure: Failure| {
        let fix = "fix the template, or remove it to use Tulu's format";
        Failure { fix: fix.to_owned(), ..failure }.at(&source.dir)
    };
    let (specials, special_tokens) = vocabulary(source);
    let own = Template::new(template, specials.clone()).map_err(place)?;
    let templates = Templates { own: Some(own), tulu: Template::tulu(specials)? };
    let [system, question, answer] =
        [(Role::System, "Be brief."), (Role::User, "Hello"), (Role::Assistant, "Hi! How can I help?")]
            .map(|(role, text)| Message::new(role, text));
    templates.render(std::slice::from_ref(&question), true, &special_tokens).map_err(place)?;
    let others = [
        ("a system message", vec![system, question.clone()]),
        ("a second question", vec![question.clone(), answer, question]),
    ];
    let note = |(what, messages): (&str, Vec<Message>)| {
        let refused = templates.render(&messages, true, &special_tokens).err()?;
        Some(format!("conversations with {what} will fail: {}", refused.what))
    };
    Ok(others.into_iter().filter_map(note).collect())
}

/// Returns the special tokens of a checkpoint, as `tokenize.rs` finds them in a model.
fn vocabulary(source: &Checkpoint) -> (SpecialTokensMap, Vec<SpecialToken>) {
    let tokenizer = &source.tokenizer;
    let text = |id: u32| tokenizer.tokens.get(id as usize).map(|token| token.text.clone()).unwrap_or_default();
    let special = (0..)
        .zip(&tokenizer.tokens)
        .filter(|(_, token)| matches!(token.kind, TokenKind::Control | TokenKind::Unknown) && !token.text.is_empty());
    let mut special_tokens: Vec<SpecialToken> =
        special.map(|(id, token)| SpecialToken { text: token.text.clone(), id: Token::new(id) }).collect();
    let unknown = tokenizer.tokens.iter().find(|token| token.kind == TokenKind::Unknown);
    let others = [("unk_token", unknown.map(|token| token.text.clone())), ("pad_token", tokenizer.pad.map(text))];
    let others: Vec<(&'static str, String)> =
        others.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    let (bos, eos) = (tokenizer.bos.map(text).unwrap_or_default(), text(tokenizer.eos));
    let known = |text: &String| *text == bos || *text == eos || others.iter().any(|(_, other)| other == text);
    let additional = special_tokens.iter().map(|control| control.text.clone()).filter(|text| !known(text)).collect();
    special_tokens.sort_by_key(|control| std::cmp::Reverse(control.text.len()));
    (SpecialTokensMap { bos, eos, others, additional }, special_tokens)
}

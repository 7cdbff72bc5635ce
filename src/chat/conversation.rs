//! A conversation and its model: sends messages, regenerates and undoes answers, and drops old turns when the context
//! is full. The terminal is in `session.rs` and `repl.rs`, the rules for dropping turns are in `overflow.rs`.

use super::answer_writer::AnswerWriter;
use super::overflow::{Overflow, extra_space, later_starts, messages_to_send, reserved_for_answer};
use super::parameters::Parameters;
use crate::decode::{Answer, Decoder, Drafts, Event, FinishReason, Mode, Request, turn_markers};
use crate::engine::{Model, Sampling, Token};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::progress::Bar;
use crate::prompt::{Message, Prompt, Prompts, Role, system_message};
use crate::stderr;
use crate::table::count;
use std::cell::OnceCell;
use std::time::{Duration, Instant};

/// Prompt processing shows a bar when it takes longer than this; a shorter one would only flicker.
const BAR_DELAY: Duration = Duration::from_millis(500);

/// The start of the error text for a message that does not fit even without the earlier turns.
pub(super) const ALONE: &str = "the message alone";

/// A conversation and its model.
pub(crate) struct Conversation<'m> {
    pub(super) model: &'m Model,
    pub(super) decoder: Decoder<'m>,
    prompts: Prompts<'m>,
    /// All messages; the system message first, if there is one.
    pub(super) messages: Vec<Message>,
    /// Index of the first message that is sent after the system message. Earlier messages were dropped because the
    /// context was full.
    pub(super) start: usize,
    pub(super) parameters: Parameters,
    pub(super) overflow: Overflow,
    pub(super) interrupt: Interrupt,
    /// The grammar of the answers.
    grammar: Option<String>,
    /// How often the last message was regenerated. Each time, the seed is different.
    attempt: u32,
    /// Whether the notice about the template was printed.
    noticed: bool,
    /// Fingerprint of the model file, once computed.
    pub(super) fingerprint: OnceCell<String>,
}

impl<'m> Conversation<'m> {
    /// Starts a conversation, with a system message if there is one.
    pub(crate) fn new(
        model: &'m Model,
        system: Option<&str>,
        parameters: Parameters,
        overflow: Overflow,
        drafts: Drafts<'m>,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let mut chat = Self {
            model,
            decoder: Decoder::new(model, Mode::Interactive, drafts, &interrupt)?,
            prompts: Prompts::new(model.vocab(), model.chat_template().as_deref())
                .map_err(|failure| failure.at(model.path()))?,
            messages: Vec::new(),
            start: 0,
            parameters,
            overflow,
            interrupt,
            grammar: None,
            attempt: 0,
            noticed: false,
            fingerprint: OnceCell::new(),
        };
        chat.set_system(system.map(system_message).unwrap_or_default());
        Ok(chat)
    }

    /// Lets all answers follow a grammar.
    pub(crate) fn set_grammar(&mut self, grammar: Option<String>) {
        self.grammar = grammar;
    }

    /// Returns the context size in tokens.
    pub(crate) fn n_ctx(&self) -> usize {
        self.decoder.n_ctx()
    }

    /// Returns the system message, if there is one.
    pub(super) fn system(&self) -> Option<&str> {
        self.messages.first().filter(|message| message.role == Role::System).map(|message| message.content.as_str())
    }

    /// Replaces the system message; an empty `text` removes it. Other messages are kept.
    pub(super) fn set_system(&mut self, text: &str) {
        if self.system().is_some() {
            self.messages.remove(0);
            self.start = self.start.saturating_sub(1);
        }
        if !text.is_empty() {
            self.messages.insert(0, Message::new(Role::System, text));
            self.start += usize::from(self.start > 0);
        }
    }

    /// Removes all messages but the system message.
    pub(super) fn clear(&mut self) {
        self.messages.retain(|message| message.role == Role::System);
        self.start = 0;
    }

    /// Returns the number of turns: messages of the user.
    pub(super) fn turns(&self) -> usize {
        self.messages.iter().filter(|message| message.role == Role::User).count()
    }

    /// Sends `text`, and writes the answer to `out` as it is generated. Ctrl-C stops the answer; its text so far is
    /// kept. After an error the conversation is unchanged; after a stop before the first character, the message is
    /// removed.
    pub(crate) fn send(&mut self, text: String, out: &mut AnswerWriter) -> Result<Answer, Failure> {
        let (turn, start) = (self.messages.len(), self.start);
        self.messages.push(Message::new(Role::User, text));
        self.attempt = 0;
        let answer = self.generate(out);
        if !matches!(&answer, Ok(answer) if self.push_answer(answer)) {
            self.messages.truncate(turn);
        }
        if answer.is_err() {
            self.start = start;
        }
        answer
    }

    /// Generates another answer to the last message, with another seed; `None` if there is no answer to replace. After
    /// an error, or a stop before the first character, the old answer is kept.
    pub(super) fn regenerate(&mut self, out: &mut AnswerWriter) -> Result<Option<Answer>, Failure> {
        let Some(old) = self.messages.pop_if(|message| message.role == Role::Assistant) else { return Ok(None) };
        self.attempt += 1;
        let answer = self.generate(out);
        if !matches!(&answer, Ok(answer) if self.push_answer(answer)) {
            self.messages.push(old);
        }
        answer.map(Some)
    }

    /// Removes the last message and its answer; returns the message.
    pub(super) fn undo(&mut self) -> Option<String> {
        let last = self.messages.iter().rposition(|message| message.role == Role::User)?;
        let text = std::mem::take(&mut self.messages[last].content);
        self.messages.truncate(last);
        // The last turn was the only one sent, so the dropped turns are sent again.
        if self.start >= last {
            self.start = 0;
        }
        Some(text)
    }

    /// Renders the messages that are sent. Ends with the generation prompt if the last message is the user's.
    pub(super) fn prompt(&self) -> Result<Prompt, Failure> {
        let waiting = self.messages.last().is_some_and(|message| message.role == Role::User);
        self.prompts.render(&messages_to_send(&self.messages, self.start), waiting)
    }

    /// Appends an answer; returns false for one that was stopped before its first character.
    fn push_answer(&mut self, answer: &Answer) -> bool {
        if answer.reason == FinishReason::Interrupted && answer.text.is_empty() {
            return false;
        }
        // Keep the ids only if none is a special token: special tokens have no text, and only the template may write
        // them.
        let vocab = self.model.vocab();
        let plain = |ids: &Vec<Token>| ids.iter().all(|id| !vocab.piece(*id).is_empty());
        self.messages.push(match answer.ids.clone().filter(plain) {
            Some(ids) => Message::answer(answer.text.clone(), ids),
            None => Message::new(Role::Assistant, answer.text.clone()),
        });
        true
    }

    /// Returns the prompt for an answer. If it does not fit, drops the oldest turns first. If `overflow` does not allow
    /// that, returns the whole prompt, and the decoder reports the error.
    ///
    /// # Errors
    /// `CONTEXT_LENGTH` when the last message alone does not fit.
    fn fit_prompt(&mut self) -> Result<Prompt, Failure> {
        let whole = self.prompt()?;
        let n_ctx = self.n_ctx();
        let max_prompt = n_ctx - reserved_for_answer(self.parameters.max_tokens, n_ctx);
        let turns = self.turns();
        if whole.ids.len() <= max_prompt || self.overflow == Overflow::Error && turns > 1 {
            return Ok(whole);
        }
        let mut best: Option<(usize, Prompt)> = None;
        for start in later_starts(&self.messages, self.start) {
            let prompt = self.prompts.render(&messages_to_send(&self.messages, start), true)?;
            let enough = prompt.ids.len() + extra_space(n_ctx) <= max_prompt;
            best = Some((start, prompt));
            if enough {
                break;
            }
        }
        let (start, prompt) = best.unwrap_or((self.start, whole));
        let (n, gone) = (prompt.ids.len(), self.dropped_turns(start));
        if n >= n_ctx {
            let what =
                format!("{ALONE} makes a prompt of {n} tokens, but the context size is {n_ctx}, answer included");
            return Err(Failure::input(Code::ContextLength, what, "shorten it, or give a larger -c"));
        }
        if gone > self.dropped_turns(self.start) {
            let left = turns - gone;
            stderr::dim(&format!(
                "the context of {n_ctx} tokens is full: dropped the {}; the {left} that {} left will be processed again \
                 ({n} tokens)",
                count(gone, "oldest turn", "oldest turns"),
                if left == 1 { "is" } else { "are" },
            ));
        }
        self.start = start;
        Ok(prompt)
    }

    /// Returns the number of turns before `start`, which are not sent.
    pub(super) fn dropped_turns(&self, start: usize) -> usize {
        self.messages.iter().take(start).filter(|message| message.role == Role::User).count()
    }

    fn generate(&mut self, out: &mut AnswerWriter) -> Result<Answer, Failure> {
        let prompt = self.fit_prompt()?;
        if let (Some(notice), false) = (prompt.notice, self.noticed) {
            stderr::note(notice);
            self.noticed = true;
        }
        // Each turn has another seed; otherwise the same question would always get the same answer.
        let turn = u32::try_from(self.messages.len()).unwrap_or(0).wrapping_add(self.attempt.wrapping_mul(1_000_003));
        let sampling = &self.parameters.sampling;
        let seed = sampling.seed.wrapping_add(turn) % u32::MAX;
        let grammar = self.grammar.as_deref().map(|text| self.prompts.grammar(text)).transpose()?;
        // With a grammar, a marker can only be text within the answer.
        let markers = if grammar.is_some() { Vec::new() } else { turn_markers(self.prompts.is_tulu()) };
        let ticket = self.decoder.submit(Request {
            ids: prompt.ids,
            sampling: Sampling { seed, ..sampling.clone() },
            logit_bias: Vec::new(),
            grammar,
            max_tokens: self.parameters.max_tokens,
            stop: markers.into_iter().chain(self.parameters.stop.clone()).collect(),
            logprobs: None,
        })?;
        let began = Instant::now();
        let mut bar = None;
        loop {
            let events = if self.interrupt.asked().is_some() || out.closed() {
                self.decoder.cancel(ticket)
            } else {
                self.decoder.step()?
            };
            for (_, event) in events {
                match event {
                    Event::Prefill { done, total } if began.elapsed() >= BAR_DELAY => {
                        bar.get_or_insert_with(|| Bar::items("reading", "tokens", total as u64)).set(done as u64);
                    }
                    Event::Prefill { .. } | Event::Logprobs(_) => {}
                    Event::Text(text) => {
                        bar = None;
                        out.write(&text)?;
                    }
                    Event::Finished(answer) => return Ok(answer),
                }
            }
        }
    }

    /// Sends `text`. Returns the answer, and the exit code: 0, or the code of the signal that stopped the answer.
    pub(crate) fn answer_once(&mut self, text: String, out: &mut AnswerWriter) -> Result<(Answer, Exit), Failure> {
        let answer = self.send(text, out)?;
        let exit = match (answer.reason, self.interrupt.asked()) {
            (FinishReason::Interrupted, Some(exit)) => exit,
            _ => Exit::Done,
        };
        Ok((answer, exit))
    }
}

//! Conversations with a person: turns, what the terminal shows of an answer, slash commands. Decoding is `decode/`, the
//! prompt is `prompt/`.
//!
//! A turn hands the whole conversation to the decoder. Messages of the model keep the tokens they were generated as, so
//! the new prompt begins with what the cache holds, and only the new message is computed.

mod line;
mod output;
mod repl;

pub(crate) use output::Output;

use crate::decode::{Answer, Decoder, Event, Order, Reason, Request, TURN_MARKERS};
use crate::engine::{Model, Sampling};
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::progress::Bar;
use crate::prompt::{Message, Prompts, Role};
use std::time::{Duration, Instant};

/// Reading a prompt shows a bar when it takes longer than this; below, it would only flicker.
const BAR_DELAY: Duration = Duration::from_millis(500);

/// A conversation and the model that answers it.
pub(crate) struct Chat<'m> {
    decoder: Decoder<'m>,
    prompts: Prompts<'m>,
    messages: Vec<Message>,
    sampling: Sampling,
    max_tokens: u32,
    interrupt: Interrupt,
    noticed: bool,
}

impl<'m> Chat<'m> {
    /// A new conversation, with a system message if there is one.
    pub(crate) fn new(
        model: &'m Model,
        system: Option<&str>,
        sampling: Sampling,
        max_tokens: u32,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let mut chat = Self {
            decoder: Decoder::new(model, Order::Talk, &interrupt)?,
            prompts: Prompts::new(model.vocab(), model.chat_template().as_deref())
                .map_err(|failure| failure.at(model.path()))?,
            messages: Vec::new(),
            sampling,
            max_tokens,
            interrupt,
            noticed: false,
        };
        if let Some(text) = system {
            chat.set_system(text);
        }
        Ok(chat)
    }

    /// Window in tokens.
    pub(crate) fn n_ctx(&self) -> usize {
        self.decoder.n_ctx()
    }

    /// Forgets the conversation and begins a new one under another system message; none when `text` is empty.
    pub(crate) fn set_system(&mut self, text: &str) {
        self.messages.clear();
        if !text.is_empty() {
            self.messages.push(Message::new(Role::System, text));
        }
    }

    /// Forgets everything but the system message.
    pub(crate) fn clear(&mut self) {
        self.messages.retain(|message| message.role == Role::System);
    }

    /// Says `text` and writes the answer to `out` as it comes. Ctrl-C ends the answer; what came so far stays in the
    /// conversation. After an error the conversation is as it was before.
    pub(crate) fn say(&mut self, text: String, out: &mut Output) -> Result<Answer, Failure> {
        let turn = self.messages.len();
        self.messages.push(Message::new(Role::User, text));
        match self.answer(out) {
            // Stopped before the first character: nothing was said, and nothing needs an answer.
            Ok(answer) if answer.reason == Reason::Interrupted && answer.text.is_empty() => {
                self.messages.truncate(turn);
                Ok(answer)
            }
            Ok(answer) => {
                self.messages.push(match answer.ids.clone() {
                    Some(ids) => Message::answer(answer.text.clone(), ids),
                    None => Message::new(Role::Assistant, answer.text.clone()),
                });
                Ok(answer)
            }
            Err(failure) => {
                self.messages.truncate(turn);
                Err(failure)
            }
        }
    }

    fn answer(&mut self, out: &mut Output) -> Result<Answer, Failure> {
        let prompt = self.prompts.render(&self.messages, true)?;
        if let (Some(notice), false) = (prompt.notice, self.noticed) {
            eprintln!("tulu-quant: note: {notice}");
            self.noticed = true;
        }
        // Another seed for each turn, or the same question would be answered the same way throughout a session.
        let turn = u32::try_from(self.messages.len()).unwrap_or(0);
        let seed = self.sampling.seed.wrapping_add(turn) % u32::MAX;
        let ticket = self.decoder.submit(Request {
            ids: prompt.ids,
            sampling: Sampling { seed, ..self.sampling.clone() },
            max_tokens: self.max_tokens,
            stop: TURN_MARKERS.map(str::to_owned).to_vec(),
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
                    Event::Prefill { .. } => {}
                    Event::Text(text) => {
                        bar = None;
                        out.write(&text)?;
                    }
                    Event::Finished(answer) => return Ok(answer),
                }
            }
        }
    }

    /// Answers once. The exit code says whether it was interrupted.
    pub(crate) fn once(&mut self, text: String, out: &mut Output) -> Result<(Answer, Exit), Failure> {
        let answer = self.say(text, out)?;
        let exit = match (answer.reason, self.interrupt.asked()) {
            (Reason::Interrupted, Some(exit)) => exit,
            _ => Exit::Done,
        };
        Ok((answer, exit))
    }

    /// Talks until the user leaves.
    pub(crate) fn talk(&mut self, out: &mut Output) -> Result<Exit, Failure> {
        repl::run(self, out)
    }
}

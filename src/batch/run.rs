//! The run: records go through the slots of the decoder, which are filled again as soon as they are free, and every
//! finished one goes to the journal. What a flag means and what is printed is in `commands/batch.rs`.

use super::journal::Journal;
use super::lines::{Contents, Line, Lines, MAX_LINE};
use super::openai::{self, Ask, Record, Refusal};
use super::reply::{Answered, answer_line, refusal_line};
use crate::decode::{Answer, Decoder, Event, Reason, Request, TURN_MARKERS, Ticket};
use crate::engine::Sampling;
use crate::error::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::prompt::Prompts;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};

/// What holds for every record that does not say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    /// How tokens are chosen. Its seed is mixed with each record's name.
    pub(crate) sampling: Sampling,
    /// Tokens of an answer at most; `u32::MAX`: what the window leaves.
    pub(crate) max_tokens: u32,
    /// The name in the answers.
    pub(crate) model: String,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Records answered in this run.
    pub(crate) answered: u64,
    /// Of these, answers that ended because of a limit.
    pub(crate) cut: u64,
    /// Tokens of their prompts.
    pub(crate) prompt_tokens: u64,
    /// Tokens of their answers.
    pub(crate) completion_tokens: u64,
}

/// Who is told how a run goes.
pub(crate) trait Watch {
    /// Something the user should know; once.
    fn notice(&mut self, text: &str);
    /// After every step: this run's figures, and the records finished over all runs.
    fn step(&mut self, tally: &Tally, finished: u64);
}

/// A run in progress.
pub(crate) struct Run<'r, 'm> {
    decoder: Decoder<'m>,
    prompts: &'r Prompts<'m>,
    journal: &'r mut Journal,
    defaults: &'r Defaults,
    contents: &'r Contents,
    /// Names seen so far, as hashes: the records themselves are not kept.
    names: HashSet<[u8; 16]>,
    pending: HashMap<Ticket, (u64, Record)>,
    tally: Tally,
    watch: &'r mut dyn Watch,
    noticed: bool,
}

impl<'r, 'm> Run<'r, 'm> {
    /// `contents`: what the input was when the journal was opened.
    pub(crate) fn new(
        decoder: Decoder<'m>,
        prompts: &'r Prompts<'m>,
        journal: &'r mut Journal,
        defaults: &'r Defaults,
        contents: &'r Contents,
        watch: &'r mut dyn Watch,
    ) -> Self {
        Self {
            decoder,
            prompts,
            journal,
            defaults,
            contents,
            names: HashSet::new(),
            pending: HashMap::new(),
            tally: Tally::default(),
            watch,
            noticed: false,
        }
    }

    /// Answers every line of `input` that the journal does not have. `None` when all is done, else the signal that ended
    /// it.
    pub(crate) fn finish(mut self, mut input: Lines, interrupt: &Interrupt) -> Result<(Tally, Option<Exit>), Failure> {
        loop {
            self.fill(&mut input)?;
            if let Some(exit) = interrupt.asked() {
                self.journal.sync()?;
                return Ok((self.tally, Some(exit)));
            }
            if self.pending.is_empty() {
                break;
            }
            for event in self.decoder.step()? {
                if let (ticket, Event::Finished(answer)) = event {
                    self.take(ticket, &answer)?;
                }
            }
            self.watch.step(&self.tally, self.journal.len());
        }
        if input.contents()? != *self.contents {
            return Err(Failure::input(
                "INPUT_CHANGED",
                "the input changed while it was read",
                "give --restart to begin again",
            ));
        }
        Ok((self.tally, None))
    }

    /// Gives every idle slot a record, writing down those that cannot be answered on the way.
    fn fill(&mut self, input: &mut Lines) -> Result<(), Failure> {
        while self.decoder.idle() > 0 {
            let Some((number, line)) = input.next()? else { break };
            let parsed = match line {
                Line::Whole(bytes) => openai::parse(bytes),
                Line::TooLong => Err(Refusal {
                    custom_id: None,
                    code: "line_too_long",
                    message: format!("the line has more than {MAX_LINE} bytes"),
                }),
            };
            // Also for lines that are finished: a name counts from its first line on.
            let parsed = parsed.and_then(|record| self.name(record));
            if self.journal.has(number) {
                continue;
            }
            let refusal = match parsed {
                Err(refusal) => refusal,
                Ok(record) => match self.request(&record).and_then(|request| self.decoder.submit(request)) {
                    Ok(ticket) => {
                        self.pending.insert(ticket, (number, record));
                        continue;
                    }
                    Err(failure) => refusal(record, failure)?,
                },
            };
            let line = refusal_line(&self.key(number), number, &refusal);
            self.journal.append(number, false, &line)?;
        }
        Ok(())
    }

    /// Refuses a name that an earlier line has.
    fn name(&mut self, record: Record) -> Result<Record, Refusal> {
        let mut name = [0; 16];
        name.copy_from_slice(&Sha256::digest(&record.custom_id)[..16]);
        if self.names.insert(name) {
            return Ok(record);
        }
        let message = "an earlier line has the same custom_id".to_owned();
        Err(Refusal { custom_id: Some(record.custom_id), code: "duplicate_custom_id", message })
    }

    fn request(&mut self, record: &Record) -> Result<Request, Failure> {
        let (ids, mut stop) = match &record.ask {
            Ask::Chat(messages) => {
                let prompt = self.prompts.render(messages, true)?;
                if let (Some(notice), false) = (prompt.notice, self.noticed) {
                    self.watch.notice(notice);
                    self.noticed = true;
                }
                (prompt.ids, TURN_MARKERS.map(str::to_owned).to_vec())
            }
            Ask::Text(text) => (self.prompts.plain(text)?, Vec::new()),
        };
        let options = &record.options;
        stop.extend(options.stop.iter().cloned());
        let default = &self.defaults.sampling;
        let sampling = Sampling {
            temperature: options.temperature.unwrap_or(default.temperature),
            top_k: options.top_k.unwrap_or(default.top_k),
            top_p: options.top_p.unwrap_or(default.top_p),
            min_p: options.min_p.unwrap_or(default.min_p),
            repeat_penalty: options.repeat_penalty.unwrap_or(default.repeat_penalty),
            seed: options.seed.unwrap_or_else(|| seed_of(default.seed, &record.custom_id)),
            ..default.clone()
        };
        let max_tokens = options.max_tokens.unwrap_or(self.defaults.max_tokens);
        Ok(Request { ids, sampling: sampling.check()?, max_tokens, stop, logprobs: None })
    }

    fn take(&mut self, ticket: Ticket, answer: &Answer) -> Result<(), Failure> {
        let Some((number, record)) = self.pending.remove(&ticket) else { return Ok(()) };
        let cut = answer.reason == Reason::Length;
        let answered = Answered {
            text: &answer.text,
            cut,
            prompt_tokens: answer.usage.prompt_tokens,
            completion_tokens: answer.usage.completion_tokens,
            model: &self.defaults.model,
            created: crate::clock::now() as u64,
        };
        self.tally.answered += 1;
        self.tally.cut += u64::from(cut);
        self.tally.prompt_tokens += answer.usage.prompt_tokens as u64;
        self.tally.completion_tokens += answer.usage.completion_tokens as u64;
        let line = answer_line(&self.key(number), &record, &answered);
        self.journal.append(number, true, &line)
    }

    /// Names a record in the output: unlike in any other run over another input, alike when this one is resumed.
    fn key(&self, number: u64) -> String {
        format!("{}{number:08x}", self.contents.sha256.get(..16).unwrap_or_default())
    }
}

/// Errors of one record become its refusal, others end the run.
fn refusal(record: Record, failure: Failure) -> Result<Refusal, Failure> {
    if failure.exit != Exit::Input {
        return Err(failure);
    }
    let (code, fix) = match failure.code {
        "CONTEXT_LENGTH" => ("context_length_exceeded", "shorten it, or give a larger -c or fewer slots with -np"),
        "SAMPLING" => ("invalid_parameter", failure.fix.as_str()),
        _ => ("invalid_prompt", failure.fix.as_str()),
    };
    let message = format!("{}; {fix}", failure.what);
    Ok(Refusal { custom_id: Some(record.custom_id), code, message })
}

/// A seed for each record that depends neither on its line nor on the slot it gets.
fn seed_of(seed: u32, custom_id: &str) -> u32 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(custom_id).finalize();
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&digest[..4]);
    u32::from_le_bytes(bytes) % u32::MAX
}

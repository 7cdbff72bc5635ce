//! The run: records become conversations, which go through the slots of the decoder; slots are filled again as soon as they
//! are free, and every finished record goes to the results. What a flag means and what is printed is in
//! `commands/batch`.

use super::defaults::Defaults;
use super::digest::first_half;
use super::input::RecordReader;
use super::record::{AnsweredRecord, Record, RecordError};
use super::record_buffer::MAX_RECORD;
use super::record_key::{InputIndex, Key};
use super::record_state::{AnswerOutcome, RecordState};
use super::sink::{FinishedRecord, RecordSink};
use crate::clock;
use crate::decode::{Answer, Decoder, Event, FinishReason, RequestId};
use crate::error::{Code, Exit, Failure};
use crate::hex::hex;
use crate::interrupt::Interrupt;
use crate::prompt::Prompts;
use crate::sanitize::one_line;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet, VecDeque};

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunStats {
    /// Records answered in this run.
    pub(crate) answered: u64,
    /// Of these, records with an answer that ended because of a limit.
    pub(crate) cut: u64,
    /// Tokens of their prompts.
    pub(crate) prompt_tokens: u64,
    /// Of these, tokens that were in the KV cache already: of this record or shared with another.
    pub(crate) cached_tokens: u64,
    /// Tokens of their answers.
    pub(crate) completion_tokens: u64,
    /// Prompt tokens read, those of unfinished records included.
    pub(crate) read: u64,
    /// Tokens generated, about, those of unfinished records included.
    pub(crate) written: u64,
    /// Slots at work.
    pub(crate) busy: usize,
    /// Records that ask for another model.
    pub(crate) renamed: u64,
}

/// Who is told how a run goes.
pub(crate) trait RunObserver {
    /// Something the user should know; once.
    fn notice(&mut self, text: &str);
    /// After every step: this run's figures, and the records finished over all runs.
    fn step(&mut self, tally: &RunStats, finished: u64);
}

/// A request in a slot.
struct InFlight {
    /// The record.
    number: u64,
    /// Its conversation.
    choice: usize,
    /// Prompt tokens read so far.
    read: usize,
}

/// A run in progress.
pub(crate) struct Runner<'r, 'm> {
    decoder: Decoder<'m>,
    prompts: &'r Prompts<'m>,
    results: &'r mut dyn RecordSink,
    defaults: &'r Defaults,
    contents: &'r InputIndex,
    /// Names seen so far, as hashes: the records themselves are not kept.
    names: HashSet<[u8; 16]>,
    /// Records being answered.
    tasks: HashMap<u64, RecordState>,
    /// Conversations that wait for a slot.
    waiting: VecDeque<(u64, usize)>,
    flights: HashMap<RequestId, InFlight>,
    tally: RunStats,
    watch: &'r mut dyn RunObserver,
    noticed: bool,
    /// The first other model that a record asks for.
    other_model: Option<String>,
}

impl<'r, 'm> Runner<'r, 'm> {
    /// `contents`: what the input was when the results were opened.
    pub(crate) fn new(
        decoder: Decoder<'m>,
        prompts: &'r Prompts<'m>,
        results: &'r mut dyn RecordSink,
        defaults: &'r Defaults,
        contents: &'r InputIndex,
        watch: &'r mut dyn RunObserver,
    ) -> Self {
        Self {
            decoder,
            prompts,
            results,
            defaults,
            contents,
            names: HashSet::new(),
            tasks: HashMap::new(),
            waiting: VecDeque::new(),
            flights: HashMap::new(),
            tally: RunStats::default(),
            watch,
            noticed: false,
            other_model: None,
        }
    }

    /// Answers every record of `input` that the results do not have. `None` when all is done, else how the process ends:
    /// there was a signal, or nobody takes the results any more.
    pub(crate) fn finish(
        mut self,
        mut input: RecordReader,
        interrupt: &Interrupt,
    ) -> Result<(RunStats, Option<Exit>), Failure> {
        loop {
            self.fill(&mut input)?;
            if let Some(exit) = interrupt.asked() {
                self.results.sync()?;
                return Ok((self.tally, Some(exit)));
            }
            if self.results.closed() {
                return Ok((self.tally, Some(Exit::Done)));
            }
            if self.flights.is_empty() {
                break;
            }
            for (ticket, event) in self.decoder.step()? {
                match event {
                    Event::Prefill { done, .. } => {
                        let Some(flight) = self.flights.get_mut(&ticket) else { continue };
                        self.tally.read += done.saturating_sub(flight.read) as u64;
                        flight.read = done;
                    }
                    Event::Text(_) => self.tally.written += 1,
                    Event::Finished(answer) => self.take(ticket, answer)?,
                }
            }
            self.tally.busy = self.flights.len().min(self.decoder.n_slots());
            self.results.settle()?;
            self.watch.step(&self.tally, self.results.len());
        }
        if input.sha256() != self.contents.sha256 {
            return Err(changed());
        }
        if let Some(other) = &self.other_model {
            let (n, ours) = (self.tally.renamed, one_line(&self.defaults.model));
            self.watch.notice(&format!("{n} records ask for another model, such as '{other}'; {ours} answered them"));
        }
        Ok((self.tally, None))
    }

    /// Gives every free slot a conversation.
    fn fill(&mut self, input: &mut RecordReader) -> Result<(), Failure> {
        while self.decoder.idle() > 0 {
            let Some((number, choice)) = self.waiting.pop_front() else {
                if self.admit(input)? {
                    continue;
                }
                break;
            };
            let Some(task) = self.tasks.get(&number) else { continue };
            let request = task.request(choice, self.prompts, self.defaults, self.decoder.n_ctx());
            let submitted = request.and_then(|(request, notice)| Ok((self.decoder.submit(request)?, notice)));
            match submitted {
                Ok((ticket, notice)) => {
                    self.flights.insert(ticket, InFlight { number, choice, read: 0 });
                    if let (Some(notice), false) = (notice, self.noticed) {
                        self.watch.notice(notice);
                        self.noticed = true;
                    }
                }
                Err(failure) => self.give_up(number, choice, failure)?,
            }
        }
        Ok(())
    }

    /// Reads on until a record has to be answered; false when there is none left.
    fn admit(&mut self, input: &mut RecordReader) -> Result<bool, Failure> {
        while let Some(item) = input.next()? {
            let (number, line, key) = (item.number, item.line, item.key);
            if usize::try_from(number - 1).ok().and_then(|i| self.contents.keys.get(i)) != Some(&key) {
                return Err(changed());
            }
            let parsed = match item.bytes {
                Some(bytes) => self.defaults.format.parse(bytes),
                None => {
                    let message = format!("the record has more than {MAX_RECORD} bytes");
                    Err(RecordError { id: None, code: "line_too_long", message })
                }
            };
            // Also for records of others and finished ones: a name counts from its first record on.
            let parsed = parsed.and_then(|record| named(&mut self.names, record));
            if !self.defaults.shard.has(number) {
                continue;
            }
            let doubled = parsed.as_ref().is_err_and(|error_record| error_record.code == DUPLICATE);
            match self.results.get(key) {
                // An input that was reordered can bring another record of the same name before one that was answered.
                Some(ok) if !(ok && doubled) => continue,
                _ => {}
            }
            match parsed {
                Ok(record) => {
                    let record = self.with_flags(record);
                    self.look_at_model(record.model.as_deref());
                    let n = record.options.n.unwrap_or(self.defaults.n);
                    let task = RecordState::new(line, key, record, n, self.defaults);
                    self.waiting.extend((0..task.len()).map(|choice| (number, choice)));
                    self.tasks.insert(number, task);
                    return Ok(true);
                }
                Err(error_record) => self.refuse(number, line, key, &error_record)?,
            }
        }
        Ok(false)
    }

    /// What the flags say where the record says nothing.
    fn with_flags(&self, mut record: Record) -> Record {
        let options = &mut record.options;
        if options.stop.is_empty() {
            options.stop.clone_from(&self.defaults.stop);
        }
        if options.repeat_penalty.is_none() {
            options.repetition_penalty = options.repetition_penalty.or(self.defaults.repetition_penalty);
        }
        record
    }

    /// Counts a record that asks for a model which is certainly another one. A file has more in its name than its model.
    fn look_at_model(&mut self, asked: Option<&str>) {
        let Some(asked) = asked else { return };
        let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let ours = [&self.defaults.model, &self.defaults.typed].map(|name| last(name));
        if asked.trim().is_empty() || ours.iter().any(|ours| ours.starts_with(&last(asked))) {
            return;
        }
        self.tally.renamed += 1;
        self.other_model.get_or_insert_with(|| one_line(&asked.chars().take(80).collect::<String>()));
    }

    /// Errors of one record become its refusal, others end the run.
    fn give_up(&mut self, number: u64, choice: usize, failure: Failure) -> Result<(), Failure> {
        if failure.exit != Exit::Input {
            return Err(failure);
        }
        let Some(task) = self.tasks.remove(&number) else { return Ok(()) };
        self.waiting.retain(|(other, _)| *other != number);
        let tickets = self.flights.iter().filter(|(_, flight)| flight.number == number).map(|(ticket, _)| *ticket);
        for ticket in tickets.collect::<Vec<_>>() {
            self.flights.remove(&ticket);
            self.decoder.cancel(ticket);
        }
        // A window cannot be larger than the one that the model was trained for.
        let largest = self.defaults.n_ctx_train.is_some_and(|trained| self.decoder.n_ctx() >= trained as usize);
        let (code, fix) = match failure.code {
            Code::ContextLength if largest => ("context_length_exceeded", "shorten it"),
            Code::ContextLength => ("context_length_exceeded", "shorten it, or give a larger -c"),
            Code::Sampling => ("invalid_parameter", failure.fix.as_str()),
            _ => ("invalid_prompt", failure.fix.as_str()),
        };
        let place = task.place(choice).map(|place| format!("{place}: ")).unwrap_or_default();
        let id = task.record.fields.iter().next().map(|(_, value)| value.clone());
        let message = format!("{place}{}; {fix}", failure.what);
        self.refuse(number, task.line, task.key, &RecordError { id, code, message })
    }

    fn refuse(&mut self, number: u64, line: u64, key: Key, error_record: &RecordError) -> Result<(), Failure> {
        let record = self.defaults.format.error_record(&self.name(key), number, line, error_record);
        self.results.put(&FinishedRecord { number, key, ok: false, tokens: (0, 0), record: &record })
    }

    fn take(&mut self, ticket: RequestId, answer: Answer) -> Result<(), Failure> {
        let Some(InFlight { number, choice, .. }) = self.flights.remove(&ticket) else { return Ok(()) };
        let Some(task) = self.tasks.get_mut(&number) else { return Ok(()) };
        match task.take(choice, answer) {
            // Its slot is free and holds all but the new turn.
            AnswerOutcome::Turn => self.waiting.push_front((number, choice)),
            AnswerOutcome::Wait => {}
            AnswerOutcome::FinishedRecord => self.answered(number)?,
        }
        Ok(())
    }

    fn answered(&mut self, number: u64) -> Result<(), Failure> {
        let Some(task) = self.tasks.remove(&number) else { return Ok(()) };
        let key = task.key;
        let (record, choices) = task.finish();
        let answered = AnsweredRecord {
            record: &record,
            choices: &choices,
            name: &self.name(key),
            model: &self.defaults.model,
            fingerprint: &self.defaults.fingerprint,
            stamp: self.defaults.stamp.unwrap_or_else(clock::now),
        };
        let tokens = answered.tokens();
        let output_record: Value = self.defaults.format.output_record(&answered);
        self.tally.answered += 1;
        self.tally.cut += u64::from(choices.iter().flatten().any(|answer| answer.reason == FinishReason::Length));
        self.tally.prompt_tokens += tokens.0;
        self.tally.completion_tokens += tokens.1;
        self.tally.cached_tokens += answered.cached_tokens();
        self.results.put(&FinishedRecord { number, key, ok: true, tokens, record: &output_record })
    }

    /// Names a record in the output: unlike in any other run, alike when this one is resumed or runs elsewhere.
    fn name(&self, key: Key) -> String {
        hex(&first_half(Sha256::new().chain_update(&self.defaults.salt).chain_update(key.0))[..12])
    }
}

/// The code of a record that has the name of an earlier one.
const DUPLICATE: &str = "duplicate_custom_id";

/// Refuses a name that an earlier record has.
fn named(names: &mut HashSet<[u8; 16]>, record: Record) -> Result<Record, RecordError> {
    let Some(id) = &record.id else { return Ok(record) };
    if names.insert(first_half(Sha256::new().chain_update(id))) {
        return Ok(record);
    }
    let (field, id) = record.fields.iter().next().map_or(("name", None), |(field, id)| (field, Some(id.clone())));
    Err(RecordError { id, code: DUPLICATE, message: format!("an earlier record has the same {field}") })
}

fn changed() -> Failure {
    Failure::input(
        Code::InputChanged,
        "the input changed while it was read",
        "run it again with the input as it is to be",
    )
}

//! The scheduler loop: creates the requests of records, fills the decoder's slots, and passes finished records to the
//! sink. `record_state` has the state of one record. Flags and printing are in `commands/batch/`.

use super::defaults::Defaults;
use super::digest::first_half;
use super::input::{RawRecord, RecordReader};
use super::record::{AnsweredRecord, Record, RecordError};
use super::record_buffer::MAX_RECORD;
use super::record_key::{InputIndex, Key};
use super::record_state::{AnswerOutcome, RecordState};
use super::sink::{FinishedRecord, RecordSink};
use crate::api::Refusal;
use crate::clock;
use crate::decode::{Answer, Decoder, DraftCounts, Event, FinishReason, RequestId};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::prompt::Prompts;
use crate::sanitize::one_line;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet, VecDeque};
use tulu_quantize::hex;

/// Error code of a record whose id occurred before.
const DUPLICATE: &str = "duplicate_custom_id";

/// Counters for the progress display and the summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunStats {
    /// Records answered in this run.
    pub(crate) answered: u64,
    /// Answered records with a truncated answer (finish reason "length").
    pub(crate) truncated: u64,
    /// Prompt tokens of the answered records.
    pub(crate) prompt_tokens: u64,
    /// Prompt tokens that were already in the KV cache, from the same record or shared with another.
    pub(crate) cached_tokens: u64,
    /// Generated tokens of the answered records.
    pub(crate) completion_tokens: u64,
    /// Prompt tokens processed, including unfinished records.
    pub(crate) prefilled: u64,
    /// Tokens generated, approximately, including unfinished records.
    pub(crate) generated: u64,
    /// Passes and drafts of the answered records.
    pub(crate) drafts: DraftCounts,
    /// Slots in use.
    pub(crate) busy_slots: usize,
    /// Records that request another model.
    pub(crate) other_model: u64,
}

/// Receives progress updates.
pub(crate) trait RunObserver {
    /// Called with a note for the user, once for each text.
    fn note(&mut self, text: &str);
    /// Called after every step, with the counters of this run and the records finished over all runs.
    fn step(&mut self, stats: &RunStats, finished: u64);
}

/// A conversation in a slot.
struct InFlight {
    /// The number of the record.
    number: u64,
    /// The index of the conversation within the record.
    choice: usize,
    /// Prompt tokens processed so far.
    prefilled: usize,
}

/// A run in progress.
pub(crate) struct Runner<'r, 'm> {
    decoder: Decoder<'m>,
    prompts: &'r Prompts<'m>,
    sink: &'r mut dyn RecordSink,
    defaults: &'r Defaults,
    index: &'r InputIndex,
    /// Ids seen so far, hashed.
    seen_ids: HashSet<[u8; 16]>,
    /// Records in progress, by their number.
    records: HashMap<u64, RecordState>,
    /// Conversations that wait for a slot: (number of the record, index of the conversation).
    waiting: VecDeque<(u64, usize)>,
    in_flight: HashMap<RequestId, InFlight>,
    stats: RunStats,
    observer: &'r mut dyn RunObserver,
    /// Whether the note about a prompt was shown; it is shown once.
    noted: bool,
    /// The first model other than the loaded one that a record requests.
    other_model: Option<String>,
}

impl<'r, 'm> Runner<'r, 'm> {
    /// `index`: the index from the first reading of the input.
    pub(crate) fn new(
        decoder: Decoder<'m>,
        prompts: &'r Prompts<'m>,
        sink: &'r mut dyn RecordSink,
        defaults: &'r Defaults,
        index: &'r InputIndex,
        observer: &'r mut dyn RunObserver,
    ) -> Self {
        Self {
            decoder,
            prompts,
            sink,
            defaults,
            index,
            seen_ids: HashSet::new(),
            records: HashMap::new(),
            waiting: VecDeque::new(),
            in_flight: HashMap::new(),
            stats: RunStats::default(),
            observer,
            noted: false,
            other_model: None,
        }
    }

    /// Answers every record of `input` that the sink does not have. The second value is `None` if all records are
    /// finished; otherwise the run stopped early with this exit code: after a signal, or because the reader of the
    /// results has closed the pipe.
    pub(crate) fn run(
        mut self,
        mut input: RecordReader,
        interrupt: &Interrupt,
    ) -> Result<(RunStats, Option<Exit>), Failure> {
        loop {
            self.fill_slots(&mut input)?;
            if let Some(exit) = interrupt.asked() {
                self.sink.sync()?;
                return Ok((self.stats, Some(exit)));
            }
            if self.sink.closed() {
                return Ok((self.stats, Some(Exit::Done)));
            }
            if self.in_flight.is_empty() {
                break;
            }
            self.step()?;
        }
        if input.sha256() != self.index.sha256 {
            return Err(input_changed());
        }
        if let Some(other) = &self.other_model {
            let (n, ours) = (self.stats.other_model, one_line(&self.defaults.model));
            self.observer.note(&format!("{n} records ask for another model, such as '{other}'; {ours} answered them"));
        }
        Ok((self.stats, None))
    }

    /// Decodes one batch.
    fn step(&mut self) -> Result<(), Failure> {
        for (id, event) in self.decoder.step()? {
            match event {
                Event::Prefill { done, .. } => {
                    let Some(conversation) = self.in_flight.get_mut(&id) else { continue };
                    self.stats.prefilled += done.saturating_sub(conversation.prefilled) as u64;
                    conversation.prefilled = done;
                }
                Event::Logprobs(_) => {}
                Event::Text(_) => self.stats.generated += 1,
                Event::Finished(answer) => self.on_answer(id, answer)?,
            }
        }
        self.stats.busy_slots = self.in_flight.len().min(self.decoder.n_slots());
        self.sink.settle()?;
        self.observer.step(&self.stats, self.sink.len());
        Ok(())
    }

    /// Submits a conversation to every idle slot.
    fn fill_slots(&mut self, input: &mut RecordReader) -> Result<(), Failure> {
        while self.decoder.idle() > 0 {
            let Some((number, choice)) = self.waiting.pop_front() else {
                if self.next_record(input)? {
                    continue;
                }
                break;
            };
            let Some(record) = self.records.get(&number) else { continue };
            let request = record.request(choice, self.prompts, self.defaults, self.decoder.n_ctx());
            let submitted = request.and_then(|(request, notice)| Ok((self.decoder.submit(request)?, notice)));
            match submitted {
                Ok((id, notice)) => {
                    self.in_flight.insert(id, InFlight { number, choice, prefilled: 0 });
                    if let (Some(notice), false) = (notice, self.noted) {
                        self.observer.note(notice);
                        self.noted = true;
                    }
                }
                Err(failure) => self.fail_record(number, choice, failure)?,
            }
        }
        Ok(())
    }

    /// Reads records up to the first that must be answered, and queues its conversations. Returns false at the end of
    /// the input.
    fn next_record(&mut self, input: &mut RecordReader) -> Result<bool, Failure> {
        while let Some(raw) = input.next()? {
            let RawRecord { number, line, key, bytes } = raw;
            if usize::try_from(number - 1).ok().and_then(|i| self.index.keys.get(i)) != Some(&key) {
                return Err(input_changed());
            }
            let parsed = match bytes {
                Some(bytes) => self.defaults.format.parse(bytes),
                None => {
                    let message = format!("the record has more than {MAX_RECORD} bytes");
                    Err(RecordError { id: None, code: "line_too_long", message })
                }
            };
            // Also check the ids of finished records and of other shards: only the first record with an id is valid.
            let parsed = parsed.and_then(|record| check_unique(&mut self.seen_ids, record));
            if !self.defaults.shard.has(number) {
                continue;
            }
            let duplicate = parsed.as_ref().is_err_and(|error| error.code == DUPLICATE);
            match self.sink.get(key) {
                // If the input was reordered, another record with the same id may come first; the answered record is
                // then the duplicate.
                Some(ok) if !(ok && duplicate) => continue,
                _ => {}
            }
            match parsed {
                Ok(record) => {
                    self.queue(number, line, key, record);
                    return Ok(true);
                }
                Err(error) => self.put_error(number, line, key, &error)?,
            }
        }
        Ok(false)
    }

    /// Queues the conversations of a record.
    fn queue(&mut self, number: u64, line: u64, key: Key, record: Record) {
        let record = self.with_defaults(record);
        self.check_model(record.model.as_deref());
        let n = record.options.n.unwrap_or(self.defaults.n);
        let state = RecordState::new(line, key, record, n, self.defaults);
        self.waiting.extend((0..state.len()).map(|choice| (number, choice)));
        self.records.insert(number, state);
    }

    /// Sets the stop strings and the repetition penalty from the defaults if the record does not set them.
    fn with_defaults(&self, mut record: Record) -> Record {
        let options = &mut record.options;
        if options.grammar.is_none() {
            options.grammar.clone_from(&self.defaults.grammar);
        }
        if options.stop.is_empty() {
            options.stop.clone_from(&self.defaults.stop);
        }
        if options.repeat_penalty.is_none() {
            options.repetition_penalty = options.repetition_penalty.or(self.defaults.repetition_penalty);
        }
        record
    }

    /// Counts a record that requests a model which is certainly another one. A file name that begins with the requested
    /// name may be the same model.
    fn check_model(&mut self, asked: Option<&str>) {
        let Some(asked) = asked else { return };
        let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let ours = [&self.defaults.model, &self.defaults.typed].map(|name| last(name));
        if asked.trim().is_empty() || ours.iter().any(|ours| ours.starts_with(&last(asked))) {
            return;
        }
        self.stats.other_model += 1;
        self.other_model.get_or_insert_with(|| one_line(&asked.chars().take(80).collect::<String>()));
    }

    /// Fails the record of a conversation. Input errors fail only this record; any other error ends the run.
    fn fail_record(&mut self, number: u64, choice: usize, failure: Failure) -> Result<(), Failure> {
        if failure.exit != Exit::Input {
            return Err(failure);
        }
        let Some(record) = self.records.remove(&number) else { return Ok(()) };
        self.waiting.retain(|(other, _)| *other != number);
        let ids = self.in_flight.iter().filter(|(_, conversation)| conversation.number == number).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            self.in_flight.remove(&id);
            self.decoder.cancel(id);
        }
        // The context cannot be larger than the one that the model was trained for.
        let largest = self.defaults.n_ctx_train.is_some_and(|trained| self.decoder.n_ctx() >= trained as usize);
        let refusal = Refusal::from_failure(&failure, largest);
        let place = record.place(choice).map(|place| format!("{place}: ")).unwrap_or_default();
        let id = record.id();
        let message = format!("{place}{}", refusal.message);
        self.put_error(number, record.line, record.key, &RecordError { id, code: refusal.code, message })
    }

    /// Passes a failed record to the sink.
    fn put_error(&mut self, number: u64, line: u64, key: Key, error: &RecordError) -> Result<(), Failure> {
        let record = self.defaults.format.error_record(&self.result_id(key), number, line, error);
        self.sink.put(&FinishedRecord { number, key, ok: false, tokens: (0, 0), record: &record })
    }

    fn on_answer(&mut self, id: RequestId, answer: Answer) -> Result<(), Failure> {
        let Some(InFlight { number, choice, .. }) = self.in_flight.remove(&id) else { return Ok(()) };
        let Some(record) = self.records.get_mut(&number) else { return Ok(()) };
        self.stats.drafts.add(answer.usage.drafts);
        match record.add_answer(choice, answer) {
            // Put it at the front of the queue: its slot is free and still caches this conversation.
            AnswerOutcome::NextTurn => self.waiting.push_front((number, choice)),
            AnswerOutcome::Incomplete => {}
            AnswerOutcome::Complete => self.on_complete(number)?,
        }
        Ok(())
    }

    /// Passes an answered record to the sink.
    fn on_complete(&mut self, number: u64) -> Result<(), Failure> {
        let Some(state) = self.records.remove(&number) else { return Ok(()) };
        let key = state.key;
        let (record, choices) = state.finish();
        let answered = AnsweredRecord {
            record: &record,
            choices: &choices,
            name: &self.result_id(key),
            model: &self.defaults.model,
            fingerprint: &self.defaults.fingerprint,
            stamp: self.defaults.stamp.unwrap_or_else(clock::now),
        };
        let tokens = answered.tokens();
        let output_record = self.defaults.format.output_record(&answered);
        let truncated = choices.iter().flatten().any(|answer| answer.reason == FinishReason::Length);
        self.stats.answered += 1;
        self.stats.truncated += u64::from(truncated);
        self.stats.prompt_tokens += tokens.0;
        self.stats.completion_tokens += tokens.1;
        self.stats.cached_tokens += answered.cached_tokens();
        self.sink.put(&FinishedRecord { number, key, ok: true, tokens, record: &output_record })
    }

    /// Returns a deterministic result id, from the run's settings and the record's key.
    fn result_id(&self, key: Key) -> String {
        hex(&first_half(Sha256::new().chain_update(&self.defaults.salt).chain_update(key.0))[..12])
    }
}

/// Refuses a record whose id occurred before.
fn check_unique(seen_ids: &mut HashSet<[u8; 16]>, record: Record) -> Result<Record, RecordError> {
    let Some(id) = &record.id else { return Ok(record) };
    if seen_ids.insert(first_half(Sha256::new().chain_update(id))) {
        return Ok(record);
    }
    let (field, id) = record.fields.iter().next().map_or(("name", None), |(field, id)| (field, Some(id.clone())));
    Err(RecordError { id, code: DUPLICATE, message: format!("an earlier record has the same {field}") })
}

fn input_changed() -> Failure {
    let what = "the input changed while it was read";
    Failure::input(Code::InputChanged, what, "run it again once the input no longer changes")
}

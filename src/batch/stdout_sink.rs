//! Writes results to stdout, in the order of the input. Nothing is stored, so the run cannot be resumed.

use super::format::Format;
use super::output_framing::OutputFraming;
use super::record_key::Key;
use super::shard::Shard;
use super::sink::{FinishedRecord, RecordSink};
use crate::error::{Code, Failure};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Writes each record as soon as all records before it are finished.
pub(crate) struct StdoutSink<W> {
    out: W,
    frame: OutputFraming,
    shard: Shard,
    /// Position of the next record to write, within the shard, from 0.
    next: u64,
    /// Finished records that wait for an earlier one.
    out_of_order: BTreeMap<u64, (bool, String)>,
    finished: u64,
    failed: u64,
    /// Failed records that are not part of the output.
    separate_errors: Vec<String>,
    closed: bool,
}

impl<W: Write> StdoutSink<W> {
    /// `shard`: the shard of the records.
    pub(crate) fn new(out: W, format: Format, shard: Shard) -> Self {
        Self {
            out,
            frame: OutputFraming::new(format, Path::new("-")),
            shard,
            next: 0,
            out_of_order: BTreeMap::new(),
            finished: 0,
            failed: 0,
            separate_errors: Vec::new(),
            closed: false,
        }
    }

    /// Number of failed records.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Writes the end of the output; returns the failed records that are not part of it.
    pub(crate) fn finish(mut self) -> Result<Vec<String>, Failure> {
        let ended = self.frame.end(&mut self.out).and_then(|()| self.out.flush());
        self.check(ended)?;
        Ok(self.separate_errors)
    }

    fn check(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            // A closed pipe (`| head`) is not an error.
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            Err(err) => {
                let what = format!("cannot write the output: {err}");
                return Err(Failure::machine(Code::Stdout, what, "check the program or file that receives the output"));
            }
            Ok(()) => {}
        }
        Ok(())
    }
}

impl<W: Write> RecordSink for StdoutSink<W> {
    fn get(&self, _: Key) -> Option<bool> {
        None
    }

    fn put(&mut self, done: &FinishedRecord<'_>) -> Result<(), Failure> {
        self.finished += 1;
        self.failed += u64::from(!done.ok);
        self.out_of_order.insert(self.shard.place(done.number), (done.ok, done.record.to_string()));
        while let Some((ok, record)) = self.out_of_order.remove(&self.next) {
            self.next += 1;
            if !ok && self.frame.format.separates_errors() {
                self.separate_errors.push(record);
                continue;
            }
            let written = self.frame.put(record.as_bytes(), &mut self.out).and_then(|()| self.out.flush());
            self.check(written)?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.finished
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let written = self.out.flush();
        self.check(written)
    }

    fn closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::{FinishedRecord, Format, Key, RecordSink as _, Shard, StdoutSink};
    use serde_json::json;

    fn stream(format: Format, numbers: &[u64]) -> (String, Vec<String>) {
        let mut out = Vec::new();
        let mut stream = StdoutSink::new(&mut out, format, Shard::WHOLE);
        for number in numbers {
            let record = json!({"question_id": 100 - number});
            let ok = *number != 2;
            stream
                .put(&FinishedRecord { number: *number, key: Key([0; 16]), ok, tokens: (0, 0), record: &record })
                .unwrap();
        }
        let separate_errors = stream.finish().unwrap();
        (String::from_utf8(out).unwrap(), separate_errors)
    }

    #[test]
    fn stdout_has_the_order_of_the_input_or_of_the_format() {
        let line = |n: u64| format!("{{\"question_id\":{}}}", 100 - n);
        let lines = |list: &[u64]| list.iter().map(|n| line(*n) + "\n").collect::<String>();
        assert_eq!(stream(Format::Openai, &[2, 3, 1]).0, lines(&[1, 2, 3]));
        assert_eq!(stream(Format::MtBench, &[2, 3, 1]), (lines(&[3, 1]), vec![line(2)]));
        assert_eq!(stream(Format::AlpacaEval, &[1, 3, 2]).0, format!("[\n{},\n{}\n]\n", line(1), line(3)));
        assert_eq!(stream(Format::AlpacaEval, &[]).0, "[]\n");
        assert_eq!(stream(Format::Text, &[]).0, "");
    }
}

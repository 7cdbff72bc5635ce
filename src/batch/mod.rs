//! Offline completion of a file of records: `lines` (the input, streamed), `openai` (records in and out), `journal`
//! (what is finished, and the output at the end), `run` (records through the slots of the decoder).

mod journal;
mod lines;
mod openai;

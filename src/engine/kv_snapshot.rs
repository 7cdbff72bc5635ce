//! Saves a sequence of the KV cache to a file and loads it. llama.cpp checks layers, types and row sizes of the file
//! and asserts the rest, so `decode/kv_snapshot.rs` must check a file before it is loaded here.

use super::Token;
use super::context::Context;
use super::inner_context::seq_id;
use crate::error::{Code, Failure};
use std::path::Path;

impl Context<'_> {
    /// Writes the keys and values of sequence `seq`, which holds `tokens`, to `file`.
    pub(crate) fn save_sequence(&self, seq: usize, tokens: &[Token], file: &Path) -> Result<(), Failure> {
        llama_ext::log::clear();
        match self.inner.state_seq_save_file(file, seq_id(seq), tokens) {
            Ok(_) => Ok(()),
            Err(err) => {
                let what = format!("cannot write the KV cache ({err}): {}", llama_ext::log::tail());
                Err(Failure::machine(Code::KvState, what, "check space and permissions").at(file))
            }
        }
    }

    /// Loads sequence `seq` from `file` and returns its tokens, at most `max_tokens`. After an error the sequence is
    /// empty.
    pub(crate) fn load_sequence(&mut self, seq: usize, file: &Path, max_tokens: usize) -> Result<Vec<Token>, Failure> {
        llama_ext::log::clear();
        self.inner.state_seq_load_file(file, seq_id(seq), max_tokens).map(|(tokens, _)| tokens).or_else(|err| {
            self.truncate(seq, 0)?;
            let what = format!("llama.cpp cannot load the KV cache ({err}): {}", llama_ext::log::tail());
            Err(Failure::input(Code::KvState, what, "the conversation is read again").at(file))
        })
    }
}

//! What a slot of the KV cache holds, to a file and back. llama.cpp checks the shape of what it reads (layers, types, row
//! sizes) and asserts the rest, so a file comes here only after `decode/state.rs` has looked through it.

use super::{Context, Token};
use crate::error::{Code, Failure};
use std::path::Path;

impl Context<'_> {
    /// Writes the keys and values of `slot`, which are those of `tokens`, to `file`.
    pub(crate) fn save_slot(&self, slot: usize, tokens: &[Token], file: &Path) -> Result<(), Failure> {
        let seq = i32::try_from(slot).unwrap_or(i32::MAX);
        llama_ext::log::clear();
        match self.inner.state_seq_save_file(file, seq, tokens) {
            Ok(_) => Ok(()),
            Err(err) => {
                let what = format!("cannot write the KV cache ({err}): {}", llama_ext::log::tail());
                Err(Failure::machine(Code::KvState, what, "check space and permissions").at(file))
            }
        }
    }

    /// Fills `slot` from `file`, at most `max_tokens` tokens, and says which. After an error the slot is empty.
    pub(crate) fn load_slot(&mut self, slot: usize, file: &Path, max_tokens: usize) -> Result<Vec<Token>, Failure> {
        let seq = i32::try_from(slot).unwrap_or(i32::MAX);
        llama_ext::log::clear();
        self.inner.state_seq_load_file(file, seq, max_tokens).map(|(tokens, _)| tokens).or_else(|err| {
            self.truncate(slot, 0)?;
            let what = format!("llama.cpp does not take the KV cache ({err}): {}", llama_ext::log::tail());
            Err(Failure::input(Code::KvState, what, "the conversation is read again").at(file))
        })
    }
}

//! Saves the KV cache of a conversation to a file and loads it. The file format is llama.cpp's (magic, version, tokens,
//! cells, layers); the conditions that llama.cpp asserts are checked here first. The caller (`chat/kv_file.rs`) checks
//! that the file is intact and belongs to this model.

use super::decoder::Decoder;
use crate::engine::Token;
use crate::error::{Code, Failure};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// `LLAMA_STATE_SEQ_MAGIC` ("ggsq").
const MAGIC: u32 = 0x6767_7371;
/// `LLAMA_STATE_SEQ_VERSION` of the pinned llama.cpp.
const VERSION: u32 = 4;
/// The slot that a conversation uses.
const SLOT: usize = 0;

impl Decoder<'_> {
    /// Writes the tokens of the first slot to `file`, and returns their number. Writes nothing if there are none.
    pub(crate) fn save_state(&self, file: &Path) -> Result<usize, Failure> {
        let Some(slot) = self.scheduler.slots.first().filter(|slot| !slot.cached.is_empty()) else { return Ok(0) };
        self.context.save_sequence(SLOT, &slot.cached, file)?;
        Ok(slot.cached.len())
    }

    /// Loads the first slot, which must be idle, from a file of [`Decoder::save_state`]. Returns the number of its
    /// tokens. After an error the slot is empty.
    pub(crate) fn load_state(&mut self, file: &Path) -> Result<usize, Failure> {
        if self.scheduler.slots.first().is_none_or(|slot| !slot.is_idle()) {
            return Err(Failure::engine(Code::Defect, "a KV cache was loaded into a busy slot", "report this"));
        }
        let known = File::open(file).map_err(|err| err.to_string()).and_then(|open| check(&mut BufReader::new(open)));
        let known = known.and_then(|tokens| match tokens.len() {
            n if n > self.n_ctx() => Err(format!("it holds {n} tokens; the context is {} tokens", self.n_ctx())),
            _ => Ok(tokens),
        });
        let known =
            known.map_err(|why| Failure::input(Code::KvState, why, "the conversation is processed again").at(file))?;
        self.scheduler.truncate(&mut self.context, SLOT, 0)?;
        let tokens = self.context.load_sequence(SLOT, file, known.len())?;
        if tokens != known || !tokens.iter().all(|token| (0..self.context.n_vocab()).contains(&token.0)) {
            self.context.truncate(SLOT, 0)?;
            let what = "the KV cache has tokens that this model does not have";
            return Err(Failure::input(Code::KvState, what, "the conversation is processed again").at(file));
        }
        self.scheduler.slots[SLOT].cached = tokens;
        self.scheduler.slots[SLOT].cells = self.scheduler.cells.alloc(known.len())?;
        Ok(known.len())
    }
}

/// Reads the header of a file: its tokens, each of which must have one cell, at one position, in one sequence.
fn check(file: &mut impl Read) -> Result<Vec<Token>, String> {
    let mut next = || -> Result<u32, String> {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).map_err(|err| err.to_string())?;
        Ok(u32::from_le_bytes(bytes))
    };
    let (magic, version) = (next()?, next()?);
    if (magic, version) != (MAGIC, VERSION) {
        return Err("it is not a KV cache file of this llama.cpp version".to_owned());
    }
    let n = next()? as usize;
    // Memory is not reserved in advance: `n` is untrusted.
    let mut tokens = Vec::new();
    for _ in 0..n {
        tokens.push(Token::new(next()?.cast_signed()));
    }
    let (streams, cells) = (next()?, next()? as usize);
    if streams != 1 || cells != n || n == 0 {
        return Err(format!("it has {cells} cells in {streams} streams for {n} tokens"));
    }
    let mut seen = vec![false; n];
    for _ in 0..n {
        let (pos, n_seq, _seq) = (next()? as usize, next()?, next()?);
        match seen.get_mut(pos) {
            Some(seen) if !*seen && n_seq == 1 => *seen = true,
            _ => return Err(format!("position {pos} of {n} tokens is in {n_seq} sequences")),
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::{MAGIC, VERSION, check};

    fn state(tokens: &[u32], positions: &[u32]) -> Vec<u8> {
        let mut words = vec![MAGIC, VERSION, u32::try_from(tokens.len()).unwrap()];
        words.extend(tokens);
        words.extend([1, u32::try_from(positions.len()).unwrap()]);
        words.extend(positions.iter().flat_map(|pos| [*pos, 1, 0]));
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn every_token_has_a_cell_and_every_cell_a_position_of_its_own() {
        assert_eq!(check(&mut state(&[1, 5, 9], &[2, 0, 1]).as_slice()).unwrap().len(), 3);
        for wrong in [
            state(&[1, 5, 9], &[0, 1]),
            state(&[1, 5, 9], &[0, 1, 1]),
            state(&[1, 5, 9], &[0, 1, 3]),
            state(&[1, 5, 9], &[0, 1, u32::MAX]),
            state(&[], &[]),
            b"GGUF".to_vec(),
        ] {
            assert!(check(&mut wrong.as_slice()).is_err(), "{wrong:?}");
        }
        let whole = state(&[1, 5, 9], &[0, 1, 2]);
        for len in 0..whole.len() {
            assert!(check(&mut &whole[..len]).is_err(), "{len}");
        }
    }
}

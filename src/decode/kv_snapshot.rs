//! Saves a slot of the KV cache to a file and loads it. The file format is llama.cpp's (magic, version, tokens,
//! cells, layers); the conditions that llama.cpp asserts are checked here first. The caller (`kv_file.rs`) checks
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
/// A slot whose tokens stay in the KV cache after its request.
#[derive(Clone, Debug)]
pub(crate) struct KeptSlot {
    /// Number of the slot.
    pub(crate) slot: usize,
    /// Its tokens.
    pub(crate) tokens: Vec<Token>,
}

impl Decoder<'_> {
    /// Writes the tokens of a slot to `file`, and returns their number. Writes nothing if there are none.
    pub(crate) fn save_state(&self, slot: usize, file: &Path) -> Result<usize, Failure> {
        let Some(kept) = self.scheduler.slots.get(slot).filter(|slot| !slot.cached.is_empty()) else { return Ok(0) };
        self.context.save_sequence(slot, &kept.cached, file)?;
        Ok(kept.cached.len())
    }

    /// Loads a slot, which must be idle, from a file of [`Decoder::save_state`]. Returns the number of its tokens. After an
    /// error the slot is empty.
    pub(crate) fn load_state(&mut self, slot: usize, file: &Path) -> Result<usize, Failure> {
        if self.scheduler.slots.get(slot).is_none_or(|slot| !slot.is_idle()) {
            return Err(Failure::engine(Code::Defect, "a KV cache was loaded into a busy slot", "report this"));
        }
        let known = File::open(file).map_err(|err| err.to_string()).and_then(|open| check(&mut BufReader::new(open)));
        let known = known.and_then(|tokens| match tokens.len() {
            n if n > self.n_ctx() => Err(format!("it holds {n} tokens; the context is {} tokens", self.n_ctx())),
            _ => Ok(tokens),
        });
        let known =
            known.map_err(|why| Failure::input(Code::KvState, why, "the conversation is processed again").at(file))?;
        self.scheduler.truncate(&mut self.context, slot, 0)?;
        if known.len() > self.scheduler.cells.n_free() {
            let what = format!("it holds {} tokens; the KV cache has room for fewer", known.len());
            return Err(Failure::input(Code::KvState, what, "the conversation is processed again").at(file));
        }
        let tokens = self.context.load_sequence(slot, file, known.len())?;
        if tokens != known || !tokens.iter().all(|token| (0..self.context.n_vocab()).contains(&token.0)) {
            self.context.truncate(slot, 0)?;
            let what = "the KV cache has tokens that this model does not have";
            return Err(Failure::input(Code::KvState, what, "the conversation is processed again").at(file));
        }
        self.scheduler.slots[slot].cached = tokens;
        self.scheduler.slots[slot].cells = self.scheduler.cells.alloc(known.len())?;
        Ok(known.len())
    }

    /// Returns the idle slots with at least `n_least` tokens, the most recently used first.
    pub(crate) fn kept(&self, n_least: usize) -> Vec<KeptSlot> {
        let slots = self.scheduler.slots.iter().enumerate();
        let mut kept: Vec<_> = slots.filter(|(_, slot)| slot.is_idle() && slot.cached.len() >= n_least).collect();
        kept.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.last_request));
        kept.into_iter().map(|(i, slot)| KeptSlot { slot: i, tokens: slot.cached.clone() }).collect()
    }

    /// Marks a slot as the most recently used one.
    pub(crate) fn mark_used(&mut self, slot: usize) {
        self.n_requests += 1;
        if let Some(slot) = self.scheduler.slots.get_mut(slot) {
            slot.last_request = self.n_requests;
        }
    }

    /// Replaces the cells of the longest beginning that loaded slot `slot` shares with another by those of the other.
    pub(crate) fn share_loaded(&mut self, slot: usize) -> Result<(), Failure> {
        self.scheduler.share_loaded(&mut self.context, slot)
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

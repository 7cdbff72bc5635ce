//! Handles an output matrix (`lm_head.weight`) in a checkpoint with `tie_word_embeddings: true`. As in Transformers 5
//! and llama.cpp, it is used if it differs from the embedding; a copy of the embedding is omitted.

use super::config::Config;
use super::shard::{Shard, SourceTensor};
use crate::error::Result;

/// Bytes compared at a time.
const COMPARED: usize = 1 << 20;

/// Clears `tie_word_embeddings` when the checkpoint has an output matrix that differs from the embedding.
pub(crate) fn untie(
    config: &mut Config,
    shards: &[Shard],
    tensors: &[SourceTensor],
    notes: &mut Vec<String>,
) -> Result<()> {
    if !config.tie_word_embeddings {
        return Ok(());
    }
    let named = |name: &str| tensors.iter().find(|t| t.name == name);
    let (Some(head), Some(embedding)) = (named("lm_head.weight"), named("model.embed_tokens.weight")) else {
        return Ok(());
    };
    if !same(shards, head, embedding)? {
        config.tie_word_embeddings = false;
        notes.push(
            "lm_head.weight differs from the embedding although tie_word_embeddings is true; it is kept, as \
             Transformers 5 and llama.cpp do"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether two tensors have the same type, shape and bytes.
fn same(shards: &[Shard], a: &SourceTensor, b: &SourceTensor) -> Result<bool> {
    if (&a.shape, a.dtype, &a.strides, a.bytes) != (&b.shape, b.dtype, &b.strides, b.bytes) {
        return Ok(false);
    }
    if (a.shard, a.offset) == (b.shard, b.offset) {
        return Ok(true);
    }
    let (Some(of_a), Some(of_b), None) = (shards.get(a.shard), shards.get(b.shard), &a.strides) else {
        return Ok(false);
    };
    let mut buffers = [vec![0; COMPARED], vec![0; COMPARED]];
    let mut at = 0;
    while at < a.bytes {
        let n = usize::try_from(a.bytes.saturating_sub(at)).unwrap_or(COMPARED).min(COMPARED);
        let [x, y] = &mut buffers;
        let (x, y) = (&mut x[..n], &mut y[..n]);
        of_a.read(x, a.offset.saturating_add(at), "compare lm_head.weight with the embedding")?;
        of_b.read(y, b.offset.saturating_add(at), "compare lm_head.weight with the embedding")?;
        if x != y {
            return Ok(false);
        }
        at = at.saturating_add(n as u64);
    }
    Ok(true)
}

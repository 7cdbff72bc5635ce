//! What the page shows beside the table: the divergence by position, and the tokens with the largest divergence.

use crate::corpus::Chunk;
use crate::engine::Vocab;
use crate::eval::token_score::TokenScore;

/// Positions of a chunk that are drawn as one point.
const BUCKETS: usize = 32;
/// Tokens that are shown for each file.
const WORST: usize = 8;
/// Tokens before a shown token.
const BEFORE: usize = 24;

/// Details of one file.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    /// First position of each bucket, and the mean divergence there.
    pub(super) positions: Vec<(usize, f64)>,
    pub(super) worst: Vec<Worst>,
}

/// A token with a large divergence.
#[derive(Clone, Debug)]
pub(super) struct Worst {
    /// Text before it.
    pub(super) before: String,
    pub(super) token: String,
    pub(super) kl: f32,
    /// Its probability in the base, and in the file.
    pub(super) p_base: f64,
    pub(super) p: f64,
}

/// Makes the details of a file from its scores and those of the base.
pub(crate) fn details(chunks: &[Chunk], scores: &[TokenScore], base: &[TokenScore], vocab: &Vocab<'_>) -> Details {
    let places: Vec<(&Chunk, usize)> =
        chunks.iter().flat_map(|chunk| chunk.scored.iter().map(move |at| (chunk, *at))).collect();
    let longest = places.iter().map(|(_, at)| at + 1).max().unwrap_or(1);
    let first = places.iter().map(|(_, at)| *at).min().unwrap_or(0);
    let width = (longest - first).div_ceil(BUCKETS).max(1);
    let mut sums = vec![(0.0, 0_usize); (longest - first).div_ceil(width).max(1)];
    for ((_, at), score) in places.iter().zip(scores) {
        let (sum, n) = &mut sums[(at - first) / width];
        *sum += f64::from(score.kl);
        *n += 1;
    }
    let means = sums.iter().enumerate().filter(|(_, (_, n))| *n > 0);
    let positions = means.map(|(i, (sum, n))| (first + i * width, sum / *n as f64)).collect();
    let mut order: Vec<usize> = (0..scores.len().min(places.len())).collect();
    order.sort_by(|a, b| scores[*b].kl.total_cmp(&scores[*a].kl));
    let text = |tokens: &[crate::engine::Token]| {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| vocab.piece(*token)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let worst = order.into_iter().take(WORST).map(|i| {
        let (chunk, at) = places[i];
        Worst {
            before: text(&chunk.tokens[at.saturating_sub(BEFORE)..at]),
            token: text(&chunk.tokens[at..=at]),
            kl: scores[i].kl,
            p_base: base.get(i).map_or(f64::NAN, |base| (-f64::from(base.nll)).exp()),
            p: (-f64::from(scores[i].nll)).exp(),
        }
    });
    Details { positions, worst: worst.collect() }
}

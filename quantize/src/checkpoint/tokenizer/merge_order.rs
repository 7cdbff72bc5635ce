//! What follows from the order of merges: which tokens they never make, and scores with which SentencePiece merges in
//! the same order.

use super::bpe_model::BpeModel;
use std::collections::{HashMap, HashSet};

/// Counts the tokens that merging their own characters does not make. Only `ignore_merges` gives such a token to a
/// text.
pub(super) fn unreachable(model: &BpeModel) -> usize {
    let ids = model.ids();
    let mut ranks: HashMap<(u32, u32), (usize, u32)> = HashMap::with_capacity(model.merges.len());
    for (rank, merge) in model.merges.iter().enumerate() {
        let [left, right, joined] = [&merge.left, &merge.right, &merge.joined()].map(|text| ids.get(text.as_str()));
        if let (Some(left), Some(right), Some(joined)) = (left, right, joined) {
            ranks.entry((*left, *right)).or_insert((rank, *joined));
        }
    }
    let is_made = |text: &str| {
        let mut buffer = [0; 4];
        let symbols: Option<Vec<u32>> = text.chars().map(|c| ids.get(&*c.encode_utf8(&mut buffer)).copied()).collect();
        symbols.is_some_and(|symbols| merged(symbols, &ranks).len() == 1)
    };
    model.vocab().iter().filter(|(text, _)| !is_made(text)).count()
}

/// Returns the score of each token of the vocabulary: minus its place among all tokens in the order of their first
/// merges; `None` for a token that no merge makes.
pub(super) fn scores(model: &BpeModel) -> Vec<Option<f32>> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(model.vocab().len());
    for merge in &model.merges {
        let next = places.len();
        places.entry(merge.joined()).or_insert(next);
    }
    #[allow(clippy::cast_precision_loss, reason = "a vocabulary has fewer tokens than 2^24")]
    let score = |place: &usize| -(*place as f32);
    model.vocab().iter().map(|(text, _)| places.get(text).map(score)).collect()
}

/// Counts the ways to split a merged token into two tokens that are no merge. SentencePiece merges any two tokens whose
/// text together is a token.
pub(super) fn unlisted_splits(model: &BpeModel) -> usize {
    let ids = model.ids();
    let mut listed: HashSet<(u32, u32)> = HashSet::with_capacity(model.merges.len());
    let mut made: HashSet<&str> = HashSet::new();
    for merge in &model.merges {
        if let (Some(left), Some(right)) = (ids.get(merge.left.as_str()), ids.get(merge.right.as_str())) {
            listed.insert((*left, *right));
        }
        if let Some((text, _)) = ids.get_key_value(merge.joined().as_str()) {
            made.insert(text);
        }
    }
    let splits = |text: &&str| {
        let text = *text;
        let at = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        at.filter(|(left, right)| match (ids.get(left), ids.get(right)) {
            (Some(left), Some(right)) => !listed.contains(&(*left, *right)),
            _ => false,
        })
        .count()
    };
    made.iter().map(splits).fold(0, usize::saturating_add)
}

/// Merges the pair of the lowest rank, the leftmost of equals, until no pair is left.
fn merged(mut symbols: Vec<u32>, ranks: &HashMap<(u32, u32), (usize, u32)>) -> Vec<u32> {
    let best = |symbols: &[u32]| {
        let pairs = symbols.windows(2).enumerate();
        let known = pairs.filter_map(|(at, pair)| match pair {
            [a, b] => ranks.get(&(*a, *b)).map(|(rank, joined)| (*rank, at, *joined)),
            _ => None,
        });
        known.min()
    };
    while let Some((_, at, joined)) = best(&symbols) {
        symbols.splice(at..at.saturating_add(2), [joined]);
    }
    symbols
}

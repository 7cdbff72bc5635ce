//! What follows from the order of merges: which tokens they never make.

use super::bpe_model::BpeModel;
use std::collections::HashMap;

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

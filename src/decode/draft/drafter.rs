//! Decides which tokens are guessed in the next pass, and learns from the result. The expected gain follows from the
//! measured rates and times of passes; what wrong guesses cost is bounded by the allowance.

use super::allowance::Allowance;
use super::families::{Families, FamilyId};
use super::guess::Guess;
use super::lookup::PairIndex;
use super::rates::Rates;
use super::row_costs::{ROWS_MAX, RowCosts};
use crate::engine::Token;
use std::time::Duration;

/// Guesses must be expected to make generation faster by this factor.
const GAIN_MIN: f64 = 1.02;
/// After so many passes with guesses, one without: the time of a plain pass changes as the context grows.
const PASSES_BETWEEN_PLAIN: u32 = 64;

/// A running answer for which tokens can be guessed.
#[derive(Debug)]
pub(in crate::decode) struct Subject<'a> {
    /// Prompt and answer so far.
    pub(in crate::decode) ids: &'a [Token],
    /// The index of `ids`.
    pub(in crate::decode) index: &'a PairIndex,
    /// The family of the prompt.
    pub(in crate::decode) family: FamilyId,
    /// Maximum tokens to guess.
    pub(in crate::decode) n_max: usize,
}

/// Guesses tokens, and measures whether it pays.
#[derive(Debug)]
pub(in crate::decode) struct Drafter {
    enabled: bool,
    /// `None`: finished answers are not used.
    families: Option<Families>,
    rates: Rates,
    costs: RowCosts,
    allowance: Allowance,
    passes_since_plain: u32,
}

impl Drafter {
    /// `enabled`: whether to guess at all; `learns`: whether to guess from finished answers too.
    pub(in crate::decode) fn new(enabled: bool, learns: bool) -> Self {
        Self {
            enabled,
            families: (enabled && learns).then(Families::default),
            rates: Rates::default(),
            costs: RowCosts::default(),
            allowance: Allowance::default(),
            passes_since_plain: 0,
        }
    }

    /// Whether tokens can be guessed beside `n` running answers, for `n` rows without guesses.
    pub(in crate::decode) fn is_possible(&self, n: usize) -> bool {
        self.enabled
            && n < ROWS_MAX
            && self.costs.seconds(n).is_some()
            && self.passes_since_plain < PASSES_BETWEEN_PLAIN
    }

    /// Returns a guess for each of `subjects`, all running answers; most are empty. All guesses together have at most
    /// `room` tokens.
    pub(in crate::decode) fn guess(&mut self, subjects: &[Subject<'_>], room: usize) -> Vec<Guess> {
        let n_max = ROWS_MAX - subjects.len().min(ROWS_MAX);
        let mut guesses: Vec<Guess> =
            subjects.iter().map(|subject| self.longest(subject, subject.n_max.min(n_max).min(room))).collect();
        let lengths = self.lengths(&guesses, room);
        guesses.iter_mut().zip(lengths).for_each(|(guess, len)| guess.truncate(len));
        guesses
    }

    /// Returns the guess with the most evidence: from the conversation itself, or from finished answers.
    fn longest(&self, subject: &Subject<'_>, n_max: usize) -> Guess {
        let own = subject.index.guess(subject.ids, subject.ids, n_max);
        let families = self.families.as_ref();
        let other = families.map(|families| families.guess(subject.family, subject.ids, n_max)).unwrap_or_default();
        if other.classes.first() > own.classes.first() { other } else { own }
    }

    /// Returns how many tokens of each guess are worth a row: those with which the expected number of tokens per second
    /// is largest.
    fn lengths(&self, guesses: &[Guess], room: usize) -> Vec<usize> {
        let n = guesses.len();
        let mut lengths = vec![0; n];
        let Some(plain) = self.costs.seconds(n) else { return lengths };
        // Every guessed token, with the probability that it and those before it are right.
        let mut tokens: Vec<(f64, usize)> = Vec::new();
        for (i, guess) in guesses.iter().enumerate() {
            let mut all_right = 1.0;
            for class in &guess.classes {
                all_right *= self.rates.rate(*class);
                tokens.push((all_right, i));
            }
        }
        tokens.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut expected, mut best, mut best_len) = (n as f64, GAIN_MIN * n as f64 / plain, 0);
        let rows_left = self.costs.rows_to_try().saturating_sub(n).min(room);
        for (len, (right, _)) in (1..).zip(tokens.iter().take(rows_left)) {
            let Some(seconds) = self.costs.seconds(n + len).filter(|seconds| self.allowance.covers(seconds - plain))
            else {
                break;
            };
            expected += right;
            if expected / seconds > best {
                (best, best_len) = (expected / seconds, len);
            }
        }
        tokens[..best_len].iter().for_each(|(_, i)| lengths[*i] += 1);
        lengths
    }

    /// Records which of the guessed tokens were right: the first `n_right`; if there is another one, it was wrong,
    /// unless the answer ended (`ended`) before it was checked.
    pub(in crate::decode) fn judge(&mut self, guess: &Guess, n_right: usize, ended: bool) {
        let n_checked = if ended { n_right } else { n_right + 1 };
        for (i, class) in guess.classes.iter().take(n_checked).enumerate() {
            self.rates.observe(*class, i < n_right);
        }
    }

    /// Records a pass of `n` running answers with `n_guessed` guessed tokens, of which `n_right` were accepted.
    pub(in crate::decode) fn observe(&mut self, n: usize, n_guessed: usize, n_right: usize, time: Duration) {
        if !self.enabled {
            return;
        }
        self.passes_since_plain = if n_guessed == 0 { 0 } else { self.passes_since_plain + 1 };
        self.costs.observe(n + n_guessed, time);
        let Some(plain) = self.costs.seconds(n) else { return };
        let seconds = if n_guessed == 0 { plain } else { time.as_secs_f64() };
        self.allowance.observe(seconds, plain, n_right as f64 * plain / n.max(1) as f64);
    }

    /// Adds a finished answer, for guesses in others of its family.
    pub(in crate::decode) fn learn(&mut self, family: FamilyId, answer: &[Token]) {
        if let Some(families) = &mut self.families {
            families.add(family, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Drafter, FamilyId, PairIndex, Subject, Token};
    use std::time::Duration;

    /// Runs 1,000 passes over a text in which every guess is right with the probability `right`, with a pass of k rows
    /// that takes 1 + `slope` * (k - 1) seconds. Returns tokens per second.
    fn speed(right: f64, slope: f64) -> f64 {
        let ids: Vec<Token> = (0..100).map(|i| Token::new(i % 50)).collect();
        let mut index = PairIndex::default();
        index.extend(&ids);
        let mut drafter = Drafter::new(true, false);
        let (mut state, mut tokens, mut seconds) = (1_u32, 0.0, 0.0);
        for _ in 0..1000 {
            let subject = Subject { ids: &ids, index: &index, family: FamilyId::of(&ids), n_max: 16 };
            let guess = match drafter.is_possible(1) {
                true => drafter.guess(&[subject], 16).pop().unwrap_or_default(),
                false => super::Guess::default(),
            };
            let n = guess.tokens.len();
            let mut n_right = 0;
            while n_right < n {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if f64::from(state >> 8) / f64::from(1 << 24) >= right {
                    break;
                }
                n_right += 1;
            }
            drafter.judge(&guess, n_right, false);
            let time = 1.0 + slope * n as f64;
            drafter.observe(1, n, n_right, Duration::from_secs_f64(time));
            (tokens, seconds) = (tokens + 1.0 + n_right as f64, seconds + time);
        }
        tokens / seconds
    }

    #[test]
    fn wrong_guesses_cost_less_than_three_percent() {
        for slope in [0.02, 0.1, 0.3, 1.0, 3.0] {
            let speed = speed(0.0, slope);
            assert!(speed > 0.97, "slope {slope}: {speed}");
        }
    }

    #[test]
    fn right_guesses_pay_where_rows_are_cheap() {
        assert!(speed(0.9, 0.05) > 3.0);
        assert!(speed(0.8, 0.1) > 2.0);
        assert!(speed(0.5, 0.2) > 1.1);
        assert!(speed(0.8, 1.0) > 0.97, "rows are as expensive as passes");
    }
}

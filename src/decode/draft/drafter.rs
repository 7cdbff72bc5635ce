//! Decides which tokens are guessed in the next pass, and learns from the result. The expected gain follows from the
//! measured rates and times of passes; what wrong guesses cost is bounded by the allowance.

use super::allowance::Allowance;
use super::drafts::{DraftSource, Drafts};
use super::families::{Families, FamilyId};
use super::forced::Forced;
use super::guess::Guess;
use super::rates::Rates;
use super::row_costs::{ROWS_MAX, RowCosts};
use super::second_model::SecondModel;
use super::subject::Subject;
use crate::engine::{Model, Token};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use std::time::Duration;

/// Guesses must be expected to make generation faster by this factor.
const GAIN_MIN: f64 = 1.02;
/// Maximum tokens that the second model guesses for one answer.
const SECOND_MAX: usize = 16;
/// Assumed time of a guess of the second model before the first one, relative to a pass.
const ASSUMED_STEP: f64 = 0.2;
/// After so many passes with guesses, one without: the time of a plain pass changes as the context grows.
const PASSES_BETWEEN_PLAIN: u32 = 64;

/// Where guesses come from.
#[derive(Debug)]
enum Source<'m> {
    None,
    /// Earlier text: of the conversation, and of finished answers if there are families.
    Lookup(Option<Families>),
    /// Earlier text, or a second model.
    SecondModel(Option<Families>, Box<SecondModel<'m>>),
    Forced(Forced),
}

/// Guesses tokens, and measures whether it pays.
#[derive(Debug)]
pub(in crate::decode) struct Drafter<'m> {
    source: Source<'m>,
    /// [`Drafts::n_tokens`].
    n_tokens: Option<usize>,
    rates: Rates,
    costs: RowCosts,
    allowance: Allowance,
    passes_since_plain: u32,
    /// Seconds in which the second model made the last guesses.
    second_seconds: f64,
}

impl<'m> Drafter<'m> {
    /// `main`: the model whose tokens are guessed. `learns`: whether to guess from finished answers too.
    pub(in crate::decode) fn new(
        drafts: Drafts<'m>,
        main: &Model,
        learns: bool,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let families = learns.then(Families::default);
        let source = match drafts.source {
            DraftSource::Off => Source::None,
            DraftSource::Lookup => Source::Lookup(families),
            DraftSource::SecondModel(model) => {
                Source::SecondModel(families, Box::new(SecondModel::new(model, main, interrupt)?))
            }
            DraftSource::Forced(forced) => Source::Forced(forced),
        };
        Ok(Self::with(source, drafts.n_tokens))
    }

    fn with(source: Source<'m>, n_tokens: Option<usize>) -> Self {
        Self {
            source,
            n_tokens,
            rates: Rates::default(),
            costs: RowCosts::default(),
            allowance: Allowance::default(),
            passes_since_plain: 0,
            second_seconds: 0.0,
        }
    }

    /// Whether tokens can be guessed beside `n` running answers.
    pub(in crate::decode) fn is_possible(&self, n: usize) -> bool {
        !matches!(self.source, Source::None)
            && n < ROWS_MAX
            && (self.n_tokens.is_some()
                || self.costs.seconds(n).is_some() && self.passes_since_plain < PASSES_BETWEEN_PLAIN)
    }

    /// Whether subjects need a proposer.
    pub(in crate::decode) fn needs_proposer(&self) -> bool {
        matches!(self.source, Source::SecondModel(..))
    }

    /// The answer that replaces the tokens that the model chooses, in a measurement.
    pub(in crate::decode) fn given_answer(&self) -> &[Token] {
        if let Source::Forced(forced) = &self.source { &forced.answer } else { &[] }
    }

    /// Returns a guess for each of `subjects`, all running answers; most are empty. All guesses together have at most
    /// `room` tokens.
    pub(in crate::decode) fn guess(
        &mut self,
        subjects: &mut [Subject<'_>],
        room: usize,
    ) -> Result<Vec<Guess>, Failure> {
        self.second_seconds = 0.0;
        let n_max = room.min(ROWS_MAX - subjects.len().min(ROWS_MAX));
        let mut guesses: Vec<Guess> =
            subjects.iter().map(|subject| self.certain(subject, subject.n_max.min(n_max))).collect();
        let (lengths, speed) = self.lengths(&guesses, room);
        if let Some((len, other)) = self.second_length(subjects.len(), room)
            && other > speed
            && let Source::SecondModel(_, second) = &mut self.source
        {
            let guesses = second.guess(subjects, len)?;
            self.second_seconds = second.spent();
            return Ok(guesses);
        }
        guesses.iter_mut().zip(lengths).for_each(|(guess, len)| guess.truncate(len));
        Ok(guesses)
    }

    /// Returns the guess from earlier text with the most evidence, or the forced one.
    fn certain(&self, subject: &Subject<'_>, n_max: usize) -> Guess {
        let families = match &self.source {
            Source::None => return Guess::default(),
            Source::Forced(forced) => return forced.guess(subject, n_max),
            Source::Lookup(families) | Source::SecondModel(families, _) => families.as_ref(),
        };
        let own = subject.index.guess(subject.ids, subject.ids, n_max);
        let other = families.map(|families| families.guess(subject.family, subject.ids, n_max)).unwrap_or_default();
        if other.classes.first() > own.classes.first() { other } else { own }
    }

    /// Returns how many tokens of each guess are worth a row: those with which the expected number of tokens per second
    /// is largest. Also returns this speed.
    fn lengths(&self, guesses: &[Guess], room: usize) -> (Vec<usize>, f64) {
        let n = guesses.len();
        if let Some(fixed) = self.n_tokens {
            return (guesses.iter().map(|guess| fixed.min(guess.tokens.len()).min(room / n.max(1))).collect(), 0.0);
        }
        let mut lengths = vec![0; n];
        let Some(plain) = self.costs.seconds(n) else { return (lengths, 0.0) };
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
        let rows_left = self.costs.rows_to_try(n).saturating_sub(n).min(room);
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
        (lengths, best)
    }

    /// Returns how many tokens the second model should guess for each of `n` answers, and the expected tokens per second;
    /// `None` if there is no such model, or if it would not pay.
    fn second_length(&self, n: usize, room: usize) -> Option<(usize, f64)> {
        let Source::SecondModel(_, second) = &self.source else { return None };
        if let Some(fixed) = self.n_tokens {
            return Some((fixed.min(room / n.max(1)), f64::INFINITY));
        }
        let plain = self.costs.seconds(n)?;
        let step = second.seconds().unwrap_or(ASSUMED_STEP * plain);
        let (mut all_right, mut expected) = (1.0, n as f64);
        let mut best = None;
        for len in 1..=SECOND_MAX.min(room / n.max(1)) {
            let rows = n * (1 + len);
            if rows > self.costs.rows_to_try(n) {
                break;
            }
            let seconds = self.costs.seconds(rows)? + len as f64 * step;
            if !self.allowance.covers(seconds - plain) {
                break;
            }
            all_right *= self.rates.rate(Rates::SECOND_MODEL);
            expected += n as f64 * all_right;
            let speed = expected / seconds;
            if speed > best.map_or(GAIN_MIN * n as f64 / plain, |(_, best)| best) {
                best = Some((len, speed));
            }
        }
        best
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
        if matches!(self.source, Source::None) {
            return;
        }
        self.passes_since_plain = if n_guessed == 0 { 0 } else { self.passes_since_plain + 1 };
        self.costs.observe(n + n_guessed, time);
        let (Some(plain), Some(pass)) = (self.costs.seconds(n), self.costs.seconds(n + n_guessed)) else { return };
        // The usual time of such a pass, not the time of this one: a moment in which the machine was busy is no reason to
        // stop guessing.
        let seconds = if n_guessed == 0 { plain } else { pass + self.second_seconds };
        self.allowance.observe(seconds, plain, n_right as f64 * plain / n.max(1) as f64);
    }

    /// Adds a finished answer, for guesses in others of its family.
    pub(in crate::decode) fn learn(&mut self, family: FamilyId, answer: &[Token]) {
        if let Source::Lookup(Some(families)) | Source::SecondModel(Some(families), _) = &mut self.source {
            families.add(family, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Drafter, FamilyId, Guess, Source, Subject, Token};
    use crate::decode::draft::lookup::PairIndex;
    use std::time::Duration;

    /// Runs `passes` passes over a text in which every guess is right with the probability `right`, with a pass of k rows
    /// that takes 1 + `slope` * (k - 1) seconds. Returns tokens per second.
    fn speed(passes: usize, right: f64, slope: f64) -> f64 {
        speed_if_busy(passes, right, slope, 0.0)
    }

    /// Like [`speed`], on a machine that is busy in a fraction of the passes: these take 20 times as long, which the result
    /// does not count.
    fn speed_if_busy(passes: usize, right: f64, slope: f64, busy: f64) -> f64 {
        let ids: Vec<Token> = (0..100).map(|i| Token::new(i % 50)).collect();
        let mut index = PairIndex::default();
        index.extend(&ids);
        let mut drafter = Drafter::with(Source::Lookup(None), None);
        let (mut state, mut tokens, mut seconds) = (1_u32, 0.0, 0.0);
        for _ in 0..passes {
            let family = FamilyId::of(&ids);
            let subject =
                Subject { slot: 0, ids: &ids, n_prompt: 50, index: &index, family, n_max: 16, proposer: None };
            let guess = match drafter.is_possible(1) {
                true => drafter.guess(&mut [subject], 16).unwrap().pop().unwrap_or_default(),
                false => Guess::default(),
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
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let longer = if f64::from(state >> 8) / f64::from(1 << 24) < busy { 20.0 } else { 1.0 };
            drafter.observe(1, n, n_right, Duration::from_secs_f64(longer * time));
            (tokens, seconds) = (tokens + 1.0 + n_right as f64, seconds + time);
        }
        tokens / seconds
    }

    #[test]
    fn wrong_guesses_cost_less_than_three_percent() {
        // In a short answer the first guess shows, if a row takes longer than a pass.
        for (passes, slopes) in [(64, &[0.02, 0.1, 0.3, 1.0][..]), (1000, &[0.02, 0.1, 0.3, 1.0, 3.0])] {
            for slope in slopes {
                let speed = speed(passes, 0.0, *slope);
                assert!(speed > 0.97, "{passes} passes, slope {slope}: {speed}");
            }
        }
    }

    #[test]
    fn a_busy_machine_does_not_stop_guesses() {
        for busy in [0.02, 0.1, 0.2] {
            let [right, wrong] = [(0.8, 0.1), (0.0, 0.3)].map(|(rate, slope)| speed_if_busy(1000, rate, slope, busy));
            assert!(right > 1.8 && wrong > 0.93, "{busy}: {right} and {wrong}");
        }
    }

    #[test]
    fn right_guesses_pay_where_rows_are_cheap() {
        assert!(speed(1000, 0.9, 0.05) > 3.0);
        assert!(speed(1000, 0.8, 0.1) > 2.0);
        assert!(speed(1000, 0.5, 0.2) > 1.1);
        assert!(speed(1000, 0.8, 1.0) > 0.97, "rows are as expensive as passes");
    }
}

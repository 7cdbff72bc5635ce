//! Drafts: guesses of the next tokens of an answer. The decoder computes several guessed tokens in one pass over the
//! weights, and keeps those that the model chooses too, so the answer is the same as without drafts.
//!
//! `lookup` finds guesses in the tokens of the conversation, `families` in finished answers, `second_model` computes them
//! with a smaller model, and `forced` makes them for measurements. `rates` measures how often guesses are right, `row_costs`
//! the time of a pass, `allowance` bounds the time that wrong guesses may cost, and `drafter` decides with these how
//! many tokens are guessed.

mod allowance;
mod counts;
mod drafter;
mod drafts;
mod families;
mod forced;
mod guess;
mod lookup;
mod rates;
mod row_costs;
mod second_model;
mod subject;

pub(crate) use counts::DraftCounts;
pub(super) use drafter::Drafter;
pub(crate) use drafts::{DraftSource, Drafts};
pub(super) use families::FamilyId;
pub(crate) use forced::Forced;
pub(super) use guess::Guess;
pub(super) use lookup::PairIndex;
pub(super) use subject::Subject;

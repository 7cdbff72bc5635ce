//! Drafts: guesses of the next tokens of an answer. The decoder computes several guessed tokens in one pass over the
//! weights, and keeps those that the model chooses too, so the answer is the same as without drafts.
//!
//! `lookup` finds guesses in the tokens of the conversation, `rates` measures how often guesses are right, `row_costs`
//! the time of a pass, `allowance` bounds the time that wrong guesses may cost, and `drafter` decides with these how
//! many tokens are guessed.

mod allowance;
mod counts;
mod drafter;
mod families;
mod guess;
mod lookup;
mod rates;
mod row_costs;

pub(crate) use counts::DraftCounts;
pub(super) use drafter::{Drafter, Subject};
pub(super) use families::FamilyId;
pub(super) use guess::Guess;
pub(super) use lookup::PairIndex;

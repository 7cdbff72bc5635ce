//! The model card: a README.md next to converted files, ready to be published with them. Facts about the files are
//! measured. Facts about the source come from the source or from the family's table; if neither has a fact, the card
//! states that it is unknown.

mod facts;
mod licence;
mod render;
mod write;

pub(crate) use write::{place, write};

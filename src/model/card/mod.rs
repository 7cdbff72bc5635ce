//! The model card: a README.md beside converted files, fit to be published with them as it is. What it says of files is
//! measured, what it says of a source is what the source itself or the family's table says; what is not known is said to be
//! so. The words are in `render.rs`, licences in `licence.rs`.

mod facts;
mod licence;
mod render;
mod write;

pub(crate) use write::{place, write};

//! The model card: a README.md next to converted files, ready to be published with them. Facts about files are measured,
//! facts about a source come from the source or the family's table, and unknown facts are stated as unknown.

mod facts;
mod licence;
mod render;
mod write;

pub(crate) use write::{place, write};

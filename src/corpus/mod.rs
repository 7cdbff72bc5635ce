//! Texts for evaluation and calibration: reads a file or takes a text that the program carries, and cuts its tokens into
//! chunks. What is computed with the chunks is in `eval/` and `imatrix/`.

mod chunk;
mod chunks;
mod conversations;
mod read;
mod shipped;

pub(crate) use chunk::Chunk;
pub(crate) use chunks::{Purpose, chunks};
pub(crate) use read::Corpus;
pub(crate) use shipped::Shipped;

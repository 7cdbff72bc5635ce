//! Texts for evaluation and calibration: reads a file or takes a text that the program carries, and cuts its tokens into
//! chunks. What is computed with the chunks is in `eval/` and `imatrix/`.

mod chunks;
mod read;
mod shipped;

pub(crate) use chunks::{Chunk, chunks};
pub(crate) use read::Corpus;
pub(crate) use shipped::Shipped;

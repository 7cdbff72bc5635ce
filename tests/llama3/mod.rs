//! Models with a byte-level BPE vocabulary, as Tulu 3 and everything else that is derived from Llama 3.

mod bpe_files;
mod prompts;
mod split_files;

pub(crate) use split_files::split;

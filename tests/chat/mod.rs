//! `chat`: from a pipe, on a terminal, saved and continued.

mod conversation;
mod keys;
mod pipe;
mod terminal;

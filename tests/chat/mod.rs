//! `chat`: from a pipe, on a terminal, saved and continued.

mod commands;
mod conversation;
mod drafts;
mod input;
mod overflow;
mod pipe;
mod signals;

//! The results as a page: one HTML file with its style and drawings, without scripts and without the network. Every mark in
//! a drawing has a shape and a label, so that no colour has to be told from another.

mod details;
mod groups;
mod html;
mod plot;
mod text;

pub(crate) use details::details;
pub(crate) use html::page;

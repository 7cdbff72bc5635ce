//! Rows come with the fixes.

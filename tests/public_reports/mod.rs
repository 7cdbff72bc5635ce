//! Public bug reports of other tools, tried on this program: each row of a table has the input of one report and the
//! expected result. Ids and texts of Transformers are golden files in `tests/golden/public_reports`.

mod checkpoint_table;
mod folders;
mod prompt;
mod records;
mod tokens;
mod weights;

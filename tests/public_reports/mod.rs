//! What users of other tools reported in public, tried on this program: each row of a table makes the input of one
//! report, and says what must come out. Ids and texts of Transformers are goldens in `tests/golden/public_reports`.

mod checkpoint_table;
mod folders;
mod prompt;
mod records;
mod tokens;
mod weights;

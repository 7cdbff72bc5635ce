//! All code about files that differs between operating systems. Each function works everywhere; the function's
//! documentation describes the behaviour on systems that lack a feature. The program's own `platform/` has the same
//! role for processes: signals, memory limits, CPU affinity and the terminal.

mod disk;
mod file_id;
mod names;
mod open;
mod os_text;
mod positioned;
mod unnamed;

pub use disk::{NoSpace, allocated, device, free_space, reserve};
pub use file_id::{inode, is_at, links};
pub use names::{is_unsupported, rename_no_replace, symlink, sync_folder};
pub use open::{Mode, deny_links, for_reading, temp_file};
pub use os_text::{replace, split_at_last};
pub use positioned::{read_exact_at, write_all_at};
pub use unnamed::{create_unnamed, name};

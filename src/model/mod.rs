//! Which file a MODEL argument means.

use crate::error::Failure;
use crate::interrupt::Interrupt;
use std::path::PathBuf;

pub(crate) fn resolve(model: Option<&str>, _: &Interrupt) -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(model.unwrap_or("/tmp/tulu-tiny.gguf")))
}

pub(crate) mod cache {
    use crate::error::Failure;
    use std::path::PathBuf;
    pub(crate) fn dir() -> Result<PathBuf, Failure> {
        Ok(std::env::var_os("TULU_QUANT_CACHE").unwrap_or("/tmp/tq-cache".into()).into())
    }
}

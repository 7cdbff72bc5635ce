//! Operations on text in paths, which may not be valid UTF-8.

use std::ffi::{OsStr, OsString};

/// Splits `text` at the last byte that equals `separator` (an ASCII character), which is in neither part; `None` if
/// there is no such byte. On Windows, text that is not Unicode is not split.
#[must_use]
pub fn split_at_last(text: &OsStr, separator: u8) -> Option<(&OsStr, &OsStr)> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let bytes = text.as_bytes();
        let at = bytes.iter().rposition(|byte| *byte == separator)?;
        Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
    }
    #[cfg(not(unix))]
    {
        let (before, after) = text.to_str()?.rsplit_once(char::from(separator))?;
        Some((OsStr::new(before), OsStr::new(after)))
    }
}

/// Returns `text` with every `from` replaced by `to`. On Windows, text that is not Unicode is returned unchanged.
#[must_use]
pub fn replace(text: &OsStr, from: &str, to: &str) -> OsString {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
        let (mut rest, mut out) = (text.as_bytes(), Vec::new());
        while !rest.is_empty() {
            if !from.is_empty() && rest.starts_with(from.as_bytes()) {
                out.extend_from_slice(to.as_bytes());
                rest = &rest[from.len()..];
            } else {
                out.push(rest[0]);
                rest = &rest[1..];
            }
        }
        OsString::from_vec(out)
    }
    #[cfg(not(unix))]
    {
        text.to_str().map_or_else(|| text.to_owned(), |text| text.replace(from, to).into())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::{replace, split_at_last};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    #[test]
    fn names_need_not_be_utf8() {
        let text = OsStr::from_bytes(b"a\xff:b:Q4");
        assert_eq!(split_at_last(text, b':'), Some((OsStr::from_bytes(b"a\xff:b"), OsStr::new("Q4"))));
        assert_eq!(split_at_last(OsStr::new("none"), b':'), None);
        assert_eq!(replace(OsStr::from_bytes(b"{x}\xff{x}"), "{x}", "yy"), OsStr::from_bytes(b"yy\xffyy"));
    }
}

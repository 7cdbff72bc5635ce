//! What lies in a file's place when a download went wrong: a Git LFS pointer, or the page or message of a server.

/// Bytes at the start of a file that are enough to tell.
pub(crate) const HEAD: usize = 512;

/// What the file that begins with `head` is instead of what it should be, and what to do about it.
pub(crate) fn instead(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const AGAIN: &str = "download the file again, with a token where the repository asks for one";
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |with: &str| {
        let with = with.as_bytes();
        head.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if begins("version https://git-lfs") || begins("version https://hawser") {
        return Some(("is a Git LFS pointer, not the file itself", "fetch the files with git lfs pull"));
    }
    if ["<!doctype html", "<html", "<head", "<?xml", "<error>"].into_iter().any(begins) {
        return Some(("is the page of a web server, not the file itself", AGAIN));
    }
    let messages = ["{\"error\"", "Entry not found", "Access to model", "Invalid username", "Invalid credentials"];
    messages.into_iter().any(begins).then_some(("is the message of a server, not the file itself", AGAIN))
}

#[cfg(test)]
mod tests {
    use super::instead;

    #[test]
    fn what_came_in_a_files_place_is_told_by_its_first_bytes() {
        for (head, said) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", Some("Git LFS pointer")),
            ("\u{feff}\r\n<!DOCTYPE html><html>", Some("page of a web server")),
            ("<HTML>", Some("page of a web server")),
            ("<?xml version=\"1.0\"?><Error>", Some("page of a web server")),
            ("{\"error\":\"Repository not found\"}", Some("message of a server")),
            ("Entry not found", Some("message of a server")),
            ("{\"model_type\": \"llama\"}", None),
            ("version 2", None),
            ("", None),
        ] {
            let found = instead(head.as_bytes()).map(|(what, _)| what);
            assert_eq!(found.is_some(), said.is_some(), "{head}");
            assert!(said.is_none_or(|said| found.is_some_and(|what| what.contains(said))), "{head}: {found:?}");
        }
    }
}

//! The `curl` commands in the documents.

use crate::support::serve::Server;
use std::fs;
use std::path::Path;

/// Returns path and body of the commands in a document; a body is in single quotes and may have several lines.
fn commands(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let starts = text.match_indices("curl ").filter(|(at, _)| text[..*at].ends_with(['\n', '$', ' ']));
    for (at, _) in starts {
        let Some((_, rest)) = text[at..].split_once("http://127.0.0.1:8080") else { continue };
        let path = rest.split([' ', '\n', '`']).next().unwrap_or_default().to_owned();
        let body = rest.split_once(" -d '").filter(|(before, _)| !before.contains('\n'));
        let body = body.and_then(|(_, rest)| rest.split('\'').next()).unwrap_or_default();
        all.push((path, body.to_owned()));
    }
    all
}

#[test]
fn curl_commands_are_answered() {
    let server = Server::start(&["-c", "1024"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut n = 0;
    for document in ["README.md", "docs/serve.md"] {
        for (path, body) in commands(&fs::read_to_string(root.join(document)).unwrap()) {
            let response = if body.is_empty() { server.get(&path) } else { server.post(&path, &body) };
            assert_eq!(response.status, 200, "{document}: {path} {body}: {}", response.body);
            n += 1;
        }
    }
    assert!(n >= 4, "the documents have {n} commands: does this test still find them?");
}

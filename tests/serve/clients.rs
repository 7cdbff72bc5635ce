//! The Python packages of OpenAI and ollama, and jsonschema, against the real server.

use crate::support::serve::Server;
use std::path::Path;
use std::process::Command;

/// Runs a script of `python/` against a server with a key.
fn passes(script: &str, flags: &[&str]) {
    let server = Server::start(&[&["--api-key", "sk-test", "-c", "1024"], flags].concat());
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/python").join(script);
    let output =
        Command::new(python).arg(script).arg(format!("http://{}", server.address)).arg("sk-test").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim_end().ends_with("ok"), "{out}\n{err}");
}

#[test]
#[ignore = "needs the Python package openai"]
fn python_openai_client_works() {
    passes("openai_client.py", &[]);
}

#[test]
#[ignore = "needs the Python package ollama"]
fn python_ollama_client_works() {
    passes("ollama_client.py", &[]);
}

#[test]
#[ignore = "needs the Python packages openai and jsonschema"]
fn python_jsonschema_accepts_200_answers() {
    passes("schemas.py", &[]);
}

//! Messages with text of a server or a repository: nothing acts on the terminal, and the advice is right.

use crate::support::hub::checks::{ID, printed, served, whole};
use crate::support::hub::{Fault, Server};
use crate::support::{last_line, run};
use serde_json::json;
use std::process::Output;

/// ESC, C1 controls and bidirectional marks in every text of a server or a repository.
#[test]
fn server_text_does_not_act_on_the_terminal() {
    let acts = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    for bad in ["\u{1b}]0;PWNED\u{7}\u{1b}[31m", "\u{9b}31m", "\u{202e}gpj", "a\r\u{8}b"] {
        let text = format!("x{bad}x");
        let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
        let config =
            |key: &str| json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", key: text}).to_string();
        type Setup<'a> = Box<dyn Fn(&Server) + 'a>;
        let setups: Vec<Setup<'_>> = vec![
            Box::new(|hub: &Server| hub.fault(Fault::on("api/models").status(403).header("X-Error-Message", &text))),
            Box::new(|hub| hub.fault(Fault::on("api/models").status(403).header("X-Error-Code", &text))),
            Box::new(|hub| hub.fault(Fault::on("api/models").redirect_to(&text))),
            Box::new(|hub| {
                hub.fault(Fault::on("api/models").say(json!({"sha": text, "siblings": []}).to_string().as_bytes()))
            }),
            Box::new(|hub| {
                let listing = json!({"sha": "a".repeat(40), "siblings": [{"rfilename": format!("{text}.json")}, {"rfilename": "config.json"}]});
                hub.fault(Fault::on("revision/main").say(listing.to_string().as_bytes()));
            }),
            Box::new(|hub| hub.licence(&text)),
            Box::new(|hub| {
                let names = [format!("{text}.json"), format!("LICENSE{text}"), format!("model-{text}.safetensors")];
                let mut files: Vec<_> = names.iter().map(|name| file(name, b"{}")).collect();
                files.extend([
                    file("config.json", config("x").as_bytes()),
                    file("model.safetensors", b"{}"),
                    file("tokenizer.model", b""),
                ]);
                hub.add_files(ID, files);
            }),
            Box::new(|hub| {
                hub.add_files(
                    ID,
                    vec![file("config.json", config("model_type").as_bytes()), file("model.safetensors", b"{}")],
                )
            }),
            Box::new(|hub| {
                hub.add_files(
                    ID,
                    vec![file("config.json", config("torch_dtype").as_bytes()), file("model.safetensors", b"{}")],
                )
            }),
        ];
        for (n, setup) in setups.iter().enumerate() {
            let hub = served();
            setup(&hub);
            for args in [
                &["pull", ID, "--dry-run"][..],
                &["chat", ID, "-p", "x", "-n", "1"],
                &["convert", ID, "--dry-run"],
                &["pull", ID],
                &["--error-format", "json", "pull", ID, "--refresh"],
            ] {
                let output = run(hub.command().env("TULU_QUANT_HUB_TRIES", "1").args(args), b"");
                let text = printed(&output);
                assert!(!text.chars().any(acts), "{n} {args:?} {bad:?}: {text:?}");
                assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{n} {args:?}: {text}");
            }
        }
    }
}

/// The JSON stays valid, and the name in it is not escaped for the terminal.
#[test]
fn json_error_is_valid_for_any_name() {
    let hub = Server::start();
    for bad in ["\u{1b}[31m", "\u{9b}31m", "\u{202e}gpj", "a\nb", "\u{7f}", "\u{e0041}", "\u{2028}", "é€😀\"\\"] {
        let name = format!("./x{bad}.gguf");
        let output = run(hub.command().args(["--error-format", "json", "chat", &name, "-p", "x"]), b"");
        let line = last_line(&output);
        let error: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!((&error["error"]["file"], &error["error"]["code"]), (&name.into(), &"NOT_FOUND".into()));
        assert!(!last_line(&output).chars().any(|c| c.is_control() || c == '\u{202e}'), "{output:?}");
    }
}

/// The advice promises a resume only where something was kept.
#[test]
fn advice_matches_the_situation() {
    let advice = |part: &str, fault: fn(Fault) -> Fault, token: bool| {
        let hub = served();
        hub.fault(fault(Fault::on(part)));
        let mut command = hub.command();
        if !token {
            command.env_remove("HF_TOKEN");
        }
        let output = run(command.args(["pull", ID]), b"");
        last_line(&output).rsplit_once("; ").unwrap().1.to_owned()
    };
    assert_eq!(advice("api/models", |f| f.status(503), true), "run it again later");
    assert_eq!(advice("model-00001", |f| f.status(503), true), "run it again later to resume");
    assert_eq!(advice("api/models", |f| f.status(200), true), "check HF_ENDPOINT and the proxy");
    let missing = |f: Fault| f.status(404);
    assert!(advice("api/models", missing, false).ends_with("a private one needs HF_TOKEN"));
    let with = advice("api/models", missing, true);
    assert!(
        with.contains("a token that may read it: see http://127.0.0.1:") && with.ends_with("/settings/tokens"),
        "{with}"
    );
}

/// A token on an unencrypted connection is a warning; four connections that wait print one note.
#[test]
fn warnings_are_printed_once() {
    let hub = served();
    let count = |output: &Output, words: &str| printed(output).matches(words).count();
    let mut command = hub.command();
    command.env("TULU_QUANT_HUB_TRIES", "1").env("HF_ENDPOINT", "http://mirror.invalid");
    assert_eq!(count(&run(command.args(["pull", ID]), b""), "without encryption"), 1);
    let mut command = hub.command();
    command.env("TULU_QUANT_HUB_TRIES", "1").env("HF_ENDPOINT", "http://127.evil.invalid");
    assert_eq!(count(&run(command.args(["pull", ID]), b""), "without encryption"), 1);
    let mut command = hub.command();
    command.env_remove("HF_TOKEN").env("TULU_QUANT_HUB_TRIES", "1").env("HF_ENDPOINT", "http://mirror.invalid");
    assert_eq!(count(&run(command.args(["pull", ID]), b""), "without encryption"), 0);
    hub.fault(Fault::on("model-0000").times(4).status(429).header("Retry-After", "4"));
    let output = run(hub.command().env("TULU_QUANT_HUB_TRIES", "9").args(["pull", ID]), b"");
    whole(&output);
    assert_eq!(
        (count(&output, "without encryption"), count(&output, "trying again") <= 2),
        (0, true),
        "{}",
        printed(&output)
    );
}

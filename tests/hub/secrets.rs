//! Passwords and tokens are in no message and no file, whatever a server sends back.

use crate::support::hub::checks::{ID, check, files_below, printed, pull, served, whole};
use crate::support::hub::{CANARY, Fault, Server};
use crate::support::{last_line, run};
use std::fs;
use std::process::Command;

/// Sets HF_ENDPOINT to the hub's address with a user name and a password.
fn with_password(hub: &Server, command: &mut Command) {
    let at = hub.url().strip_prefix("http://").unwrap();
    command.env("HF_ENDPOINT", format!("http://bob:PASSW0RDpassw0rd@{at}/"));
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(part.get(i).copied().unwrap_or(0)));
        (0..=part.len()).for_each(|i| out.push(LETTERS[(bits >> (18 - 6 * i)) as usize & 63] as char));
    }
    out
}

/// Every error that names a web page, with a password in HF_ENDPOINT.
#[test]
fn password_of_the_endpoint_is_never_printed() {
    type Wrong = fn(Fault) -> Fault;
    let faults: &[(&str, &str, Wrong)] = &[
        ("HUB_GATED", "api/models", |f| f.status(403).error_code("GatedRepo")),
        ("HUB_REVISION", "api/models", |f| f.status(404).error_code("RevisionNotFound")),
        ("HUB_FILE", "config.json", |f| f.status(404).error_code("EntryNotFound")),
        ("HUB_AUTH", "api/models", |f| f.status(401)),
        ("HUB_AUTH", "api/models", |f| f.status(403)),
        ("HUB_NOT_FOUND", "api/models", |f| f.status(404)),
        ("HUB_RATE", "api/models", |f| f.status(429).header("Retry-After", "3600")),
        ("HUB_SERVER", "api/models", |f| f.status(503)),
        ("HUB_ANSWER", "api/models", |f| f.status(200)),
        ("HUB_ANSWER", "api/models", |f| {
            f.status(418).header("X-Error-Message", "PASSW0RDpassw0rd, bob:PASSW0RDpassw0rd")
        }),
        ("HUB_REDIRECT", "config.json", |f| f.redirect_to("ftp://x/")),
        ("HUB_CUT", "model-00001", |f| f.cut_after(0)),
    ];
    for (code, part, wrong) in faults {
        for format in ["text", "json"] {
            let hub = served();
            hub.fault(wrong(Fault::on(part)));
            let mut command = hub.command();
            with_password(&hub, &mut command);
            let output = run(command.args(["--error-format", format, "pull", ID]), b"");
            assert!(last_line(&output).contains(code), "{code}: {}", last_line(&output));
            let text = printed(&output);
            let coded = base64(b"bob:PASSW0RDpassw0rd");
            assert!(!text.contains("PASSW0RD") && !text.contains(&coded), "{code}: {text}");
            assert!(!text.contains('@') || *code == "HUB_GATED", "{text}");
            check(&hub, &output);
        }
    }
    let hub = served();
    let mut command = hub.command();
    with_password(&hub, &mut command);
    command.env("HTTPS_PROXY", "http://me:hunter2hunter2@proxy.invalid:1");
    for args in
        [&["doctor"][..], &["doctor", "--json"], &["models"], &["pull", ID, "--json", "--dry-run"], &["pull", ID]]
    {
        let mut again = hub.command();
        for (name, value) in command.get_envs() {
            again.env(name, value.unwrap_or_default());
        }
        let output = run(again.args(args), b"");
        assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
        assert!(
            !printed(&output).contains("PASSW0RD") && !printed(&output).contains("hunter2"),
            "{}",
            printed(&output)
        );
        check(&hub, &output);
    }
    // no file has it
    let mut convert = hub.command();
    with_password(&hub, &mut convert);
    let output = run(convert.args(["convert", ID, "-q", "Q8_0", "--card", "-o"]).arg(hub.dir().join("out")), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    for file in files_below(hub.dir()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(8).any(|part| part == b"PASSW0RD"), "{}", file.display());
    }
    // errors about an invalid address do not print a password or token in it
    for (name, value) in [
        ("HF_ENDPOINT", "http://bob:PASSW0RD"),
        ("HF_ENDPOINT", "ftp://bob:PASSW0RD@host"),
        ("HF_ENDPOINT", "http://host/?token=PASSW0RD"),
        ("HF_ENDPOINT", "http://host/#PASSW0RD"),
        ("HF_ENDPOINT", "http://bob:PASSW0RD@ho st/"),
        ("HTTP_PROXY", "http://bob:PASSW0RD@"),
        ("HTTP_PROXY", "bob:PASSW0RD@ho st"),
        ("HTTP_PROXY", "quic://bob:PASSW0RD@host"),
    ] {
        let output = run(hub.command().env(name, value).args(["pull", ID, "--refresh"]), b"");
        assert_eq!(output.status.code(), Some(2), "{value}: {}", last_line(&output));
        assert!(!printed(&output).contains("PASSW0RD"), "{value}: {}", printed(&output));
    }
}

#[test]
fn password_of_the_endpoint_is_used_without_a_token() {
    let hub = served();
    let mut command = hub.command();
    with_password(&hub, &mut command);
    whole(&run(command.env_remove("HF_TOKEN").args(["pull", ID]), b""));
    let wanted = format!("Basic {}", base64(b"bob:PASSW0RDpassw0rd"));
    let seen = hub.requests();
    let ours: Vec<_> = seen.iter().filter(|seen| seen.host == crate::support::hub::Host::Hub).collect();
    assert!(ours.iter().all(|seen| seen.authorization.as_deref() == Some(&*wanted)), "{ours:?}");
    assert!(hub.cdn_requests().iter().all(|seen| seen.authorization.is_none()));
}

/// A server sends the token back in every encoding, and where the message is cut.
#[test]
fn returned_token_is_never_printed() {
    let encoded: String = CANARY.bytes().map(|b| format!("%{b:02X}")).collect();
    let bearer = format!("Bearer {CANARY}");
    let forms = [
        CANARY.to_owned(),
        bearer.clone(),
        CANARY.to_lowercase(),
        encoded.clone(),
        encoded.replace('%', "%25"),
        base64(CANARY.as_bytes()),
        base64(bearer.as_bytes()),
        base64(format!("user:{CANARY}").as_bytes()),
        CANARY[..14].to_owned(),
    ];
    let pieces: Vec<String> = [CANARY, &encoded, &base64(CANARY.as_bytes()), &base64(bearer.as_bytes())[14..]]
        .iter()
        .map(|form| form[..form.len().min(if form.contains('%') { 30 } else { 10 })].to_lowercase())
        .collect();
    for (n, form) in forms.iter().enumerate() {
        let hub = served();
        // the message is cut in the middle of it
        let before = 300 - form.len() / 2 - n;
        let text = format!("{} {form} and more", "x".repeat(before));
        hub.fault(Fault::on("api/models").status(403).header("X-Error-Message", &text));
        let output = pull(&hub);
        assert!(last_line(&output).contains("error[HUB_AUTH]"), "{}", last_line(&output));
        let line = printed(&output).to_lowercase();
        assert!(pieces.iter().all(|piece| !line.contains(piece)), "{form}: {line}");
        check(&hub, &output);
    }
    // in a file name, the licence, a redirect and the error of a file
    let hub = Server::start();
    let files = [CANARY, "config.json", "tokenizer.model", "model.safetensors"];
    hub.add_files("me/echo", files.map(|name| (name.to_owned(), name.as_bytes().to_vec())).into());
    hub.licence(&bearer);
    let output = run(hub.command().args(["pull", "me/echo", "--dry-run"]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    check(&hub, &output);
    check(&hub, &run(hub.command().args(["pull", "me/echo", "--dry-run", "--json"]), b""));
    for fault in [
        Fault::on("model.safetensors").redirect_to(&format!("http://{CANARY}.invalid/{CANARY}")),
        Fault::on("model.safetensors").status(500).header("X-Error-Message", CANARY),
    ] {
        hub.fault(fault);
        let output = run(hub.command().args(["pull", "me/echo"]), b"");
        assert_eq!(output.status.code(), Some(3), "{}", last_line(&output));
        assert!(!printed(&output).to_lowercase().contains(&CANARY.to_lowercase()), "{}", printed(&output));
        hub.forget();
    }
}

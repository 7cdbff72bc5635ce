//! What a server, a repository or the environment says, on its way to the user: no secret, nothing that acts on a terminal,
//! no number that ends the program, and advice that holds.

use crate::support::hub::checks::{ID, check, files_below, pull, served, whole};
use crate::support::hub::{CANARY, Fault, Server};
use crate::support::{last_line, run};
use serde_json::json;
use std::fs;
use std::process::{Command, Output};

/// Everything that was said.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The hub's address with a user's name and password in it.
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

/// Every failure that names a page, with a password in HF_ENDPOINT: it is in no message, and the page can be opened.
#[test]
fn the_password_of_the_endpoint_is_never_said() {
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
            let text = said(&output);
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
        assert!(!said(&output).contains("PASSW0RD") && !said(&output).contains("hunter2"), "{}", said(&output));
        check(&hub, &output);
    }
    // nor in any file
    let mut convert = hub.command();
    with_password(&hub, &mut convert);
    let output = run(convert.args(["convert", ID, "-q", "Q8_0", "--card", "-o"]).arg(hub.dir().join("out")), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    for file in files_below(hub.dir()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(8).any(|part| part == b"PASSW0RD"), "{}", file.display());
    }
    // what cannot be an address is said without what may be a password or a token in it
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
        assert!(!said(&output).contains("PASSW0RD"), "{value}: {}", said(&output));
    }
}

#[test]
fn a_password_in_the_endpoint_is_used_where_there_is_no_token() {
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

/// A server sends back what it was sent, in every form, and at every place where a message is cut.
#[test]
fn a_token_that_comes_back_is_never_said() {
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
        // where the message is cut: in the middle of it
        let before = 300 - form.len() / 2 - n;
        let text = format!("{} {form} and more", "x".repeat(before));
        hub.fault(Fault::on("api/models").status(403).header("X-Error-Message", &text));
        let output = pull(&hub);
        assert!(last_line(&output).contains("error[HUB_AUTH]"), "{}", last_line(&output));
        let line = said(&output).to_lowercase();
        assert!(pieces.iter().all(|piece| !line.contains(piece)), "{form}: {line}");
        check(&hub, &output);
    }
    // in a file's name, the licence, a redirect and a message for a file
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
        assert!(!said(&output).to_lowercase().contains(&CANARY.to_lowercase()), "{}", said(&output));
        hub.forget();
    }
}

/// ESC, C1 controls and bidi marks, wherever text from a server or a repository is shown.
#[test]
fn nothing_that_a_server_says_acts_on_the_terminal() {
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
                let text = said(&output);
                assert!(!text.chars().any(acts), "{n} {args:?} {bad:?}: {text:?}");
                assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{n} {args:?}: {text}");
            }
        }
    }
}

/// What was escaped for the terminal is JSON still, and the name is the same.
#[test]
fn an_error_as_json_is_json_whatever_a_name_has_in_it() {
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

/// Sizes as large as a number can be, alone and together: an error, and no arithmetic.
#[test]
fn sizes_that_no_file_has_are_refused() {
    let hash = "a".repeat(64);
    let weights = |sizes: &[u64]| {
        let mut files = vec![json!({"rfilename": "config.json", "size": 2, "blobId": "b".repeat(40)})];
        for (n, size) in sizes.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", n + 1, sizes.len());
            files.push(json!({"rfilename": name, "size": size, "lfs": {"sha256": hash, "size": size}}));
        }
        files.push(json!({"rfilename": "model.safetensors.index.json", "size": 2, "blobId": "c".repeat(40)}));
        json!({"sha": "a".repeat(40), "siblings": files})
    };
    for sizes in [&[1 << 63, 1 << 63][..], &[u64::MAX, 1], &[u64::MAX], &[(1 << 44) + 1], &[1 << 44; 70]] {
        for args in [&["pull", ID][..], &["pull", ID, "--dry-run"], &["chat", ID, "-p", "x"], &["convert", ID]] {
            let hub = served();
            hub.fault(Fault::on("api/models").say(weights(sizes).to_string().as_bytes()));
            let output = run(hub.command().env("TULU_QUANT_HUB_TRIES", "1").args(args), b"");
            let line = last_line(&output);
            assert!(
                line.contains("error[HUB_ANSWER]: ") && line.contains("which no repository has"),
                "{sizes:?}: {line}"
            );
            assert_eq!(output.status.code(), Some(3), "{line}");
        }
    }
    // the same in the other listing
    let hub = served();
    hub.bare_listing();
    let tree = json!([{"type": "file", "path": "config.json", "size": u64::MAX, "oid": "b".repeat(40)}]);
    hub.fault(Fault::on("/tree/").say(tree.to_string().as_bytes()));
    let output = pull(&hub);
    assert!(last_line(&output).contains("error[HUB_ANSWER]"), "{}", last_line(&output));
    // the largest that passes is too much for the disk
    let hub = served();
    hub.fault(Fault::on("api/models").say(weights(&[1 << 44; 3]).to_string().as_bytes()));
    let output = pull(&hub);
    assert!(last_line(&output).contains("error[DISK_FULL]"), "{}", last_line(&output));
}

#[test]
fn a_redirect_with_an_address_in_its_query_is_followed() {
    let hub = served();
    let to = format!("/{ID}/resolve/{}/config.json?from=https://x/&to=ftp://y", hub.commit(ID));
    hub.fault(Fault::on("config.json").times(1).redirect_to(&to));
    hub.fault(Fault::on("api/models").times(1).redirect_to(&format!("/api/models/{ID}/revision/main?from=https://x/")));
    let output = pull(&hub);
    whole(&output);
    check(&hub, &output);
}

#[test]
fn a_server_that_cuts_after_every_byte_ends() {
    for bytes in [1, 1000] {
        let hub = served();
        hub.fault(Fault::on("model-0000").cut_after(bytes));
        let output = pull(&hub);
        assert!(last_line(&output).contains("error[HUB_CUT]"), "{}", last_line(&output));
        assert_eq!(output.status.code(), Some(3));
        assert!(hub.requests().len() < 250, "{}", hub.requests().len());
        hub.forget();
        whole(&pull(&hub));
    }
}

/// Where nothing is kept, the advice does not say that something is.
#[test]
fn advice_holds() {
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
    assert_eq!(advice("model-00001", |f| f.status(503), true), "run it again later: it goes on where it was");
    assert_eq!(advice("api/models", |f| f.status(200), true), "check HF_ENDPOINT and the proxy");
    let missing = |f: Fault| f.status(404);
    assert!(advice("api/models", missing, false).ends_with("a private one needs HF_TOKEN"));
    let with = advice("api/models", missing, true);
    assert!(
        with.contains("a token that may read it: see http://127.0.0.1:") && with.ends_with("/settings/tokens"),
        "{with}"
    );
}

/// The token is given away on a network only with a word; one connection or four say that a server asks to wait once.
#[test]
fn what_is_to_be_known_is_said_once() {
    let hub = served();
    let count = |output: &Output, words: &str| said(output).matches(words).count();
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
        said(&output)
    );
}

#[test]
fn an_address_as_a_browser_shows_it_is_a_name() {
    let hub = served();
    let commit = hub.commit(ID);
    let place = hub.url().strip_prefix("http://").unwrap().to_owned();
    for (address, revision) in [
        (format!("https://huggingface.co/{ID}"), "main"),
        (format!("hf.co/{ID}/"), "main"),
        (format!("huggingface.co/{ID}/tree/main"), "main"),
        (format!("hf://{ID}@{commit}"), &commit),
        (format!("{}/{ID}/blob/{commit}/config.json?x=y#z", hub.url()), &commit),
        (format!("{place}/{ID}"), "main"),
        (format!("{ID}/"), "main"),
    ] {
        hub.forget();
        let output = run(hub.command().args(["pull", &address, "--refresh"]), b"");
        whole(&output);
        let asked = hub.requests().first().unwrap().path.clone();
        assert!(asked.starts_with(&format!("/api/models/{ID}/revision/{revision}?")), "{address}: {asked}");
    }
    let output =
        run(hub.command().args(["chat", &format!("https://huggingface.co/{ID}:Q8_0"), "-p", "Hi", "-n", "1"]), b"");
    assert_eq!(output.status.code(), Some(0), "{}", last_line(&output));
    let made = hub.dir().join("cache/hub/allenai--tulu-tiny").join(&commit).join("tulu-tiny-Q8_0.gguf");
    assert!(made.is_file());
    // an owner that is called like the mirror
    let mut command = hub.command();
    let output =
        run(command.env("HF_ENDPOINT", "http://mirror").env("HF_HUB_OFFLINE", "1").args(["pull", "mirror/x"]), b"");
    assert!(last_line(&output).contains("error[HUB_OFFLINE]: mirror/x: "), "{}", last_line(&output));
    let output = run(hub.command().args(["pull", "https://huggingface.co/datasets/allenai/x"]), b"");
    assert!(last_line(&output).contains("error[NOT_FOUND]"), "{}", last_line(&output));
}

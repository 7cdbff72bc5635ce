//! `tulu-quant chat` without the line editor: one answer, and the reuse of the KV cache from turn to turn.

use crate::support::chat::{ENDLESS, chat};
use crate::support::{last_line, run, tulu_quant};
use rexpect::session::{PtySession, spawn_command};
use serde_json::{Value, json};
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn said(args: &[&str]) -> Value {
    serde_json::from_str(&text(&run(chat(args).arg("--json"), b""))).unwrap()
}

#[test]
fn prompt_is_answered_once_on_stdout() {
    let answer = text(&run(&mut chat(&["-p", "Hello", "--temp", "0"]), b""));
    assert!(answer.trim().len() > 1 && answer.ends_with('\n') && !answer.ends_with("\n\n"), "{answer:?}");
    assert!(!answer.contains("<|") && !answer.contains("</s>"), "{answer:?}");
}

#[test]
fn piped_text_is_a_prompt_or_follows_one() {
    let piped = text(&run(&mut chat(&["--temp", "0"]), b"Hello\n"));
    assert_eq!(piped, text(&run(&mut chat(&["-p", "Hello", "--temp", "0"]), b"")));
    let both = text(&run(&mut chat(&["-p", "Hello", "--temp", "0"]), b"What is your name?\n"));
    assert_eq!(both, text(&run(&mut chat(&["-p", "Hello\n\nWhat is your name?", "--temp", "0"]), b"")));
}

#[test]
fn seed_determines_the_answer() {
    let tell = |seed| said(&["-p", "Tell me a story.", "-s", seed]);
    let first = tell("7");
    assert_eq!(first["text"], tell("7")["text"]);
    assert_eq!(first["seed"], 7);
    assert!(["8", "9", "10"].into_iter().any(|seed| tell(seed)["text"] != first["text"]));
}

#[test]
fn json_has_counts_and_finish_reason() {
    let answer = said(&["-p", "Tell me a story.", "--temp", "0", "-n", "3"]);
    assert_eq!(answer["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert_eq!(answer["usage"]["cached_tokens"], 0);
    assert!(answer["timings"]["predicted_per_second"].as_f64().unwrap() > 0.0);
    let answer = said(&["-p", "Hello", "--temp", "0"]);
    assert_eq!(answer["finish_reason"], "stop");
    let with_system = said(&["-p", "Hello", "--temp", "0", "--system", "Be brief."]);
    assert!(with_system["usage"]["prompt_tokens"].as_u64() > answer["usage"]["prompt_tokens"].as_u64());
}

#[test]
fn errors_have_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let not_gguf = folder.path().join("a.gguf");
    fs::write(&not_gguf, "hello").unwrap();
    let not_gguf = not_gguf.to_str().unwrap();
    let long = "word ".repeat(400);
    let cases: [(&[&str], &[u8], &str); 10] = [
        (&["-p", "x", "nowhere.gguf"], b"", "error[NOT_FOUND]: nowhere.gguf:"),
        (&["-p", "x", not_gguf], b"", "error[GGUF]:"),
        (&["-p", "x", "-c", "100"], b"", "error[CTX_SIZE]:"),
        (&["-p", "x", "-c", "1000000"], b"", "error[CTX_SIZE]:"),
        (&["-c", "256"], long.as_bytes(), "error[CONTEXT_LENGTH]:"),
        (&["-p", "x", "--temp", "nan"], b"", "error[SAMPLING]:"),
        (&["-p", "x", "-fa", "off", "-ctv", "q8_0"], b"", "error[CACHE_TYPE]:"),
        (&["-p", ""], b"", "error[PROMPT]:"),
        (&[], b"\xff\xfe", "error[PROMPT]:"),
        (&["-p", "x", "-n", "0"], b"", "error[PREDICT]:"),
    ];
    for (args, input, wanted) in cases {
        let output = run(&mut chat(args), input);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(last_line(&output).starts_with(&format!("tulu-quant: {wanted}")), "{args:?}: {}", last_line(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn truncated_model_is_refused_at_every_length() {
    // The first conversion puts the model into the cache.
    let model: PathBuf = said(&["-p", "Hello"])["model"].as_str().unwrap().into();
    let whole = fs::read(model).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.gguf");
    for len in (0..16).map(|part| whole.len() * part / 16).chain([3, 4, 8, 24, whole.len() - 1]) {
        fs::write(&cut, &whole[..len]).unwrap();
        let output = run(&mut chat(&["-p", "x", cut.to_str().unwrap()]), b"");
        assert_eq!(output.status.code(), Some(2), "{len}: {output:?}");
        assert!(last_line(&output).starts_with("tulu-quant: error[GGUF]:"), "{len}: {}", last_line(&output));
    }
}

/// A process that is generating an answer.
fn endless() -> Child {
    let mut command = chat(&["-p", "Tell me a story."]);
    command.args(ENDLESS).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn closed_stdout_ends_the_answer() {
    let mut child = endless();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 5]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("error["), "{output:?}");
}

#[test]
fn ctrl_c_exits_with_130() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = endless();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 5]).unwrap();
        Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(rest.ends_with('\n'), "{rest:?}");
    }
}

/// A conversation on a terminal.
fn terminal(args: &[&str]) -> PtySession {
    let mut command = chat(args);
    command.arg("--verbose").env("TERM", "xterm").env("NO_COLOR", "1");
    let mut session = spawn_command(command, Some(60_000)).unwrap();
    session.exp_string(">>> ").unwrap();
    session
}

/// Sends `line` and returns the numbers of the summary: new and cached prompt tokens, and used tokens of the context.
fn say(session: &mut PtySession, line: &str) -> (u64, u64, u64) {
    session.send_line(line).unwrap();
    session.exp_string("prompt ").unwrap();
    let (_, counts) = session.exp_regex(r"\d+ new \+ \d+ cached.* context \d+/").unwrap();
    let numbers: Vec<u64> = counts
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter(|word| !word.contains('.'))
        .filter_map(|word| word.parse().ok())
        .collect();
    let [new, cached, .., used] = numbers[..] else { panic!("{counts}") };
    (new, cached, used)
}

fn leaves(mut session: PtySession) {
    session.send_control('d').unwrap();
    ended(session);
}

fn ended(mut session: PtySession) {
    session.exp_eof().unwrap();
    // rexpect does not export the type.
    let status = format!("{:?}", session.process().wait());
    assert!(status.starts_with("Ok(Exited(") && status.ends_with(", 0))"), "{status}");
}

#[test]
fn turn_computes_only_new_tokens() {
    let mut session = terminal(&["--temp", "0"]);
    let (new, cached, used) = say(&mut session, "Hello");
    assert_eq!(cached, 0);
    assert!(new > 0);
    let (new, cached, used_then) = say(&mut session, "What is your name?");
    // All tokens except the </s> at the end of the answer, which was sampled and not computed.
    assert_eq!(cached, used - 1);
    assert!(new + cached < used_then);
    let (_, cached, _) = say(&mut session, "Thanks");
    assert_eq!(cached, used_then - 1);
    leaves(session);
}

/// The cache after several turns equals the cache after one prefill of the whole conversation, which `batch` does.
#[test]
fn cached_turns_give_the_same_answer_as_one_prefill() {
    let questions = ["What is the capital of France?", "And of Italy?", "Tell me a story."];
    let args: Vec<&str> = questions.iter().flat_map(|question| ["-p", question]).collect();
    let lines = text(&run(chat(&args).args(["--temp", "0", "-n", "64", "--json"]), b""));
    let answers: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), questions.len());

    let (mut messages, mut records) = (Vec::new(), String::new());
    for (turn, (question, answer)) in questions.iter().zip(&answers).enumerate() {
        messages.push(json!({"role": "user", "content": question}));
        let body = json!({"messages": messages, "max_tokens": 64, "temperature": 0});
        let url = "/v1/chat/completions";
        let record = json!({"custom_id": turn.to_string(), "method": "POST", "url": url, "body": body});
        records.push_str(&format!("{record}\n"));
        messages.push(json!({"role": "assistant", "content": answer["text"]}));
        let cached = answer["usage"]["cached_tokens"].as_u64().unwrap();
        assert_eq!(cached > 0, turn > 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.jsonl", "out.jsonl"].map(|name| folder.path().join(name));
    fs::write(&input, records).unwrap();
    let mut batch = tulu_quant();
    batch.arg("batch").arg(answers[0]["model"].as_str().unwrap()).args(["-np", "1", "-t", "1"]);
    text(&run(batch.arg("-i").arg(&input).arg("-o").arg(&output), b""));
    for (line, answer) in fs::read_to_string(output).unwrap().lines().zip(&answers) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["response"]["body"]["choices"][0]["message"]["content"], answer["text"]);
    }
}

#[test]
fn new_conversation_keeps_the_common_prefix() {
    let mut session = terminal(&["--temp", "0"]);
    let (first, _, _) = say(&mut session, "Hello");
    session.send_line("/clear").unwrap();
    session.exp_string("a new conversation").unwrap();
    let (new, cached, _) = say(&mut session, "Hello");
    assert_eq!((new, cached), (1, first - 1), "the same prompt is in the cache but for its last token");
    session.send_line("/clear").unwrap();
    session.exp_string("a new conversation").unwrap();
    session.send_line("/system Be brief.").unwrap();
    session.exp_string("system message changed").unwrap();
    let (new, cached, _) = say(&mut session, "Hello");
    assert!(new + cached > first);
    session.send_line("/exit").unwrap();
    ended(session);
}

#[test]
fn ctrl_c_stops_the_answer_not_the_session() {
    let mut session = terminal(&ENDLESS);
    session.send_line("Tell me a story.").unwrap();
    // The echoed line has ended, and the answer has begun.
    session.exp_regex(r"story\.[^\n]*\n.{5}").unwrap();
    session.send_control('c').unwrap();
    session.exp_string("stopped").unwrap();
    session.exp_string(">>> ").unwrap();
    leaves(session);
}

#[test]
fn full_context_is_reported() {
    let mut session = terminal(&[&ENDLESS[..], &["-c", "256", "--on-overflow", "error"]].concat());
    session.send_line("Tell me a story.").unwrap();
    session.exp_string("the context is full").unwrap();
    session.send_line("Go on.").unwrap();
    session.exp_string("no longer fits").unwrap();
    session.send_line("/clear").unwrap();
    session.exp_string("a new conversation").unwrap();
    leaves(session);
}

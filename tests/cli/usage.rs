//! Wrong command lines: the error is one line with the wrong argument and what to type instead.

use crate::support::chat::with_model_cache;
use crate::support::{last_line, run};
use serde_json::Value;
use std::fs;

/// Arguments, environment variables, and a part of the last line.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);

#[test]
fn last_line_says_what_is_wrong() {
    let cases: [Case; 19] = [
        (&["chat", "--nonsense"], &[], "unexpected argument '--nonsense' found; see `tulu-quant chat --help`"),
        (&["nonsense"], &[], "unrecognized subcommand 'nonsense'; see `tulu-quant --help`"),
        (
            &["chat", "--temp", "hot"],
            &[],
            "invalid value 'hot' for '--temp <T>': invalid float literal; see `tulu-quant chat --help`",
        ),
        (
            &["chat"],
            &[("TULU_QUANT_CTX_SIZE", "abc")],
            "invalid value 'abc' for '--ctx-size <N>': invalid digit found in string (TULU_QUANT_CTX_SIZE in the environment)",
        ),
        (
            &["chat", "-c", "abc"],
            &[("TULU_QUANT_CTX_SIZE", "abc")],
            "invalid value 'abc' for '--ctx-size <N>': invalid digit found in string; see",
        ),
        (&["chat", "-c", "abc"], &[("TULU_QUANT_CTX_SIZE", "512")], "invalid digit found in string; see"),
        (
            &["chat", "x"],
            &[("TULU_QUANT_YES", "perhaps")],
            "value was not a boolean (TULU_QUANT_YES in the environment)",
        ),
        (
            &["chat", "-fa", "x"],
            &[],
            "invalid value 'x' for '--flash-attn <FLASH_ATTN>' [possible values: on, off, auto]",
        ),
        (&["chat", "-np", "4"], &[], "chat has no -np (--parallel); see `tulu-quant chat --help`"),
        (&["chat", "--paralel", "4"], &[], "unexpected argument '--paralel' found; see"),
        (&["chat", "-c", "-5"], &[], "invalid value '-5' for '--ctx-size <N>'"),
        (&["chat", "-p", "x", "-t", "-1"], &[], "invalid value '-1' for '--threads <N>'"),
        (&["chat", "--load", "a", "--continue"], &[], "cannot be used with"),
        (
            &["convert"],
            &[],
            "the following required arguments were not provided: <SOURCE>; see `tulu-quant convert --help`",
        ),
        (&["batch", "-i", "x"], &[], "the following required arguments were not provided: --output <OUT> <MODEL>"),
        (&["bench", "x", "-r", "many"], &[], "invalid value 'many' for '--repetitions <N>'"),
        (&["completions", "tcsh"], &[], "invalid value 'tcsh' for '<SHELL>'"),
        (&["chat", "-p"], &[], "a value is required for '--prompt <TEXT>' but none was supplied"),
        (
            &["chat", "--temp"],
            &[("TULU_QUANT_TEMP", "x")],
            "a value is required for '--temp <T>' but none was supplied; see",
        ),
    ];
    for (args, variables, wanted) in cases {
        let output = run(with_model_cache(args).envs(variables.iter().copied()), b"");
        let last = last_line(&output);
        assert!(last.starts_with("tulu-quant: error[USAGE]: ") && last.contains(wanted), "{args:?}: {last}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        // With --error-format json, by flag or variable, the message is the same.
        let plain = &last["tulu-quant: error[USAGE]: ".len()..];
        let flag = [&["--error-format", "json"], args].concat();
        for (args, more) in [(flag.as_slice(), ("X", "")), (args, ("TULU_QUANT_ERROR_FORMAT", "json"))] {
            let output = run(with_model_cache(args).envs(variables.iter().copied()).env(more.0, more.1), b"");
            let error: Value = serde_json::from_slice(&output.stderr)
                .unwrap_or_else(|err| panic!("{args:?}: {err}: {}", String::from_utf8_lossy(&output.stderr)));
            let error = &error["error"];
            let [message, hint] = ["message", "hint"].map(|key| error[key].as_str().unwrap());
            assert_eq!(format!("{message}; {hint}"), plain, "{args:?}");
            assert_eq!((&error["code"], &error["exit"]), (&"USAGE".into(), &2.into()));
        }
    }
}

#[test]
fn no_arguments_print_the_help() {
    let output = run(&mut with_model_cache(&[]), b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("Usage: tulu-quant") && !said.contains("error["), "{said}");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        run(&mut with_model_cache(&["version"]), b"").stdout,
        run(&mut with_model_cache(&["--version"]), b"").stdout
    );
}

#[test]
fn short_help_is_short() {
    let help = |args: &[&str]| String::from_utf8(run(&mut with_model_cache(args), b"").stdout).unwrap();
    for verb in ["chat", "batch", "convert", "pull"] {
        let short = help(&[verb, "-h"]);
        assert!(!short.contains("[env: TULU_QUANT_CTX_SIZE"), "{short}");
        assert!(short.contains("\nGlobal:\n") && short.contains("TULU_QUANT_ and its name"), "{short}");
        assert!(short.find("Examples:") < short.find("TULU_QUANT_ and its name"));
    }
    // The variable of a positional argument is listed, because it has no flag.
    assert!(help(&["chat", "-h"]).contains("[env: TULU_QUANT_MODEL"), "{}", help(&["chat", "-h"]));
    assert!(help(&["man", "chat"]).contains("TULU_QUANT_ and its name"), "{}", help(&["man", "chat"]));
}

#[test]
fn empty_variable_counts_as_unset() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = with_model_cache(&["chat", "-p", "Hello", "-n", "2"]);
    for name in ["CTX_SIZE", "TEMP", "SEED", "LOAD", "FLASH_ATTN", "ON_OVERFLOW", "FILE", "MODEL", "SYSTEM", "JSON"] {
        command.env(format!("TULU_QUANT_{name}"), "");
    }
    let output = run(command.current_dir(folder.path()), b"");
    assert!(output.status.success(), "{output:?}");
}

/// All of these give the same answer.
#[test]
fn flags_of_other_tools_do_the_same() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("question.txt"), "What is the capital of France?\n").unwrap();
    let question = "What is the capital of France?";
    let answer = |args: &[&str], input: &[u8]| {
        let output = run(with_model_cache(args).current_dir(folder.path()), input);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let wanted = answer(&["chat", "tulu-tiny", "-p", question, "--temp", "0"], b"");
    assert!(wanted.contains("Paris"), "{wanted}");
    let cases: [&[&str]; 11] = [
        &["chat", "tulu-tiny", question, "--temp", "0"],
        &["chat", "tulu-tiny", "What", "is", "the", "capital", "of", "France?", "--temp", "0"],
        &["chat", "--temperature", "0", "-m", "tulu-tiny", "-p", question],
        &["chat", "-p", question, "--temp=0", "--model=tulu-tiny"],
        &["chat", "-hf", "tulu-tiny", "-p", question, "--temp", "0"],
        &["chat", "-f", "question.txt", "--temp", "0"],
        &["chat", "tulu-tiny", "--file", "question.txt", "--temp", "0", "--max-tokens", "256"],
        &["chat", "-p", question, "--temp", "0", "--n-predict", "256", "-ngl", "0"],
        &["chat", "-p", question, "--temp", "0", "--n-gpu-layers", "0", "--num-predict", "256"],
        &["chat", "-p", question, "--temp", "0", "--presence-penalty", "0", "--frequency-penalty", "-0.0"],
        &["chat", "-p", question, "--temp", "0", "--stop", "###", "--stop", "-np"],
    ];
    for args in cases {
        assert_eq!(answer(args, b""), wanted, "{args:?}");
    }
    assert_eq!(answer(&["chat", "-f", "-", "--temp", "0"], question.as_bytes()), wanted);
    let cut = answer(&["chat", "-p", question, "--temp", "0", "--stop", "Paris"], b"");
    assert_eq!(cut.trim_end(), wanted.split("Paris").next().unwrap().trim_end());
    // A prompt may begin with a dash.
    for text in ["-np", "-1 + 2 is what?", "--temp"] {
        let both = answer(&["chat", "-p", text, "--temp", "0"], b"");
        assert_eq!(both, answer(&["chat", "--temp", "0"], text.as_bytes()), "{text}");
    }
}

#[test]
fn missing_files_and_bad_values_are_reported_first() {
    let cases: [(&[&str], &str); 9] = [
        (&["chat", "./nothing.gguf"], "error[NOT_FOUND]: ./nothing.gguf: there is no such file or folder"),
        (&["chat", "What is the capital of France?"], "to ask the demonstration model this, give it with -p"),
        (&["chat", "-p", "x", "--temp", "-1"], "error[SAMPLING]: "),
        (&["chat", "-p", "x", "--top-p", "-0.5"], "error[SAMPLING]: "),
        (&["chat", "-p", "x", "--min-p", "-1e3"], "error[SAMPLING]: "),
        (&["chat", "-p", "x", "--presence-penalty", "-99"], "error[SAMPLING]: "),
        (&["chat", "-p", "x", "--stop", ""], "error[SAMPLING]: --stop has no text"),
        (&["chat", "-f", "nothing.txt"], "error[IO]: nothing.txt: cannot read: "),
        (&["chat", "tulu-tiny", ""], "error[PROMPT]: the prompt is empty"),
    ];
    for (args, wanted) in cases {
        let output = run(&mut with_model_cache(args), b"");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(last_line(&output).contains(wanted), "{args:?}: {}", last_line(&output));
    }
}

/// Also where the value fails a check of the program, not of clap.
#[test]
fn variable_with_a_bad_value_is_named() {
    for (name, value, wanted) in [
        ("TULU_QUANT_TEMP", "-1", "temperature is -1 (TULU_QUANT_TEMP in the environment)"),
        ("TULU_QUANT_TOP_P", "7", "top_p is 7 (TULU_QUANT_TOP_P in the environment)"),
        ("TULU_QUANT_CTX_SIZE", "5", "(TULU_QUANT_CTX_SIZE in the environment)"),
        ("TULU_QUANT_MODEL", "./nothing.gguf", "(TULU_QUANT_MODEL in the environment)"),
        ("TULU_QUANT_LOAD", "./nothing.json", "(TULU_QUANT_LOAD in the environment)"),
        ("TULU_QUANT_FILE", "nothing.txt", "(TULU_QUANT_FILE in the environment)"),
        ("TULU_QUANT_TOP_K", "5", ""),
    ] {
        let output = run(with_model_cache(&["chat", "-p", "x", "-n", "1"]).env(name, value), b"");
        let last = last_line(&output);
        assert!(last.contains(wanted), "{name}: {last}");
        assert_eq!(output.status.code(), Some(if wanted.is_empty() { 0 } else { 2 }), "{name}: {last}");
    }
    let output = run(with_model_cache(&["chat", "-p", "x", "--temp", "-1"]).env("TULU_QUANT_TEMP", "-2"), b"");
    assert!(!last_line(&output).contains("environment"), "{}", last_line(&output));
}

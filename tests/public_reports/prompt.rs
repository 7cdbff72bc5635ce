//! Reports about chat templates: they render as in Transformers, or are refused with the reason.

use crate::support::checkpoint::copy_to;
use crate::support::{last_line, run, tulu_quant};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

/// Templates like those of well-known models, and what Transformers renders. The file says how it was made.
fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/public_reports/templates.json")).unwrap()
}

/// A copy of the bundled checkpoint with another chat template, or with none.
fn checkpoint(name: &str, template: Option<&str>) -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}-{}", std::process::id()));
    copy_to(&to);
    let path = to.join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("chat_template");
    if let Some(template) = template {
        config["chat_template"] = template.into();
    }
    std::fs::write(path, config.to_string()).unwrap();
    to
}

/// `convert` of such a checkpoint.
fn convert(name: &str, template: Option<&str>) -> (PathBuf, Output) {
    let folder = checkpoint(name, template);
    let model = folder.with_extension("gguf");
    let output = run(tulu_quant().arg("convert").arg(&folder).args(["-q", "Q4_0", "-f", "-o"]).arg(&model), b"");
    std::fs::remove_dir_all(folder).unwrap();
    (model, output)
}

/// A model with this template.
fn model(name: &str, template: Option<&str>) -> PathBuf {
    let (model, output) = convert(name, template);
    assert_eq!(output.status.code(), Some(0), "{name}: {}", last_line(&output));
    model
}

/// `prompt` for one conversation.
fn prompt(model: &Path, messages: &Value, flags: &[&str]) -> Output {
    let mut command = tulu_quant();
    command.arg("prompt").arg(model).args(["-i", "-"]).args(flags);
    run(command.env("SOURCE_DATE_EPOCH", golden()["source_date_epoch"].to_string()), messages.to_string().as_bytes())
}

#[test]
fn templates_render_like_transformers() {
    for (i, template) in golden()["templates"].as_array().unwrap().iter().enumerate() {
        let name = template["name"].as_str().unwrap();
        // Not under its own name: llama.cpp expects special tokens in models with some names, such as phi-3.
        let model = model(&format!("template-{i}"), template["template"].as_str());
        for case in template["cases"].as_array().unwrap() {
            let flags: &[&str] = if case["add_generation_prompt"] == true { &[] } else { &["--no-generation-prompt"] };
            let output = prompt(&model, &case["messages"], flags);
            let said = String::from_utf8(output.stdout.clone()).unwrap();
            let place = format!("{name}: {}", case["messages"]);
            match (case["error"].as_str(), case["whole"].as_bool()) {
                (Some(error), _) => {
                    let line = last_line(&output);
                    assert_eq!(output.status.code(), Some(2), "{place}");
                    assert!(line.contains("error[TEMPLATE]") && line.contains(error), "{place}: {line}");
                }
                // The template leaves a message out: an error, or Tulu's own template is used.
                (None, Some(false)) if output.status.code() == Some(2) => {
                    assert!(last_line(&output).contains("error[TEMPLATE_DROPS_MESSAGE]"), "{place}");
                }
                (None, Some(false)) => {
                    assert!(last_line(&output).contains("Tulu's own template"), "{place}: {}", last_line(&output));
                }
                _ => assert_eq!(said, case["text"].as_str().unwrap(), "{place}: {}", last_line(&output)),
            }
        }
        std::fs::remove_file(model).unwrap();
    }
}

#[test]
fn template_with_crlf_renders_like_lf() {
    let template = "{% for m in messages %}\r\n{{ '<|' + m.role + '|>' }}\r\n{{ m.content }}\r\n{% endfor %}\r\n";
    let model = model("crlf", Some(template));
    let output = prompt(&model, &json!([{"role": "user", "content": "Hi\r\n"}]), &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "<|user|>\nHi\r\n\n", "what a message says stays");
    std::fs::remove_file(model).unwrap();
}

#[test]
fn missing_template_is_reported_once() {
    let model = model("none", None);
    let talk = json!([{"role": "user", "content": "Hi"}]);
    let output = prompt(&model, &json!(talk), &["--json"]);
    assert_eq!(last_line(&output), "tulu-quant: note: the model has no chat template; using Tulu's own template");
    let two =
        run(tulu_quant().arg("prompt").arg(&model).args(["-i", "-", "--json"]), format!("{talk}\n{talk}\n").as_bytes());
    assert_eq!(String::from_utf8_lossy(&two.stderr).matches("no chat template").count(), 1);
    std::fs::remove_file(model).unwrap();
}

#[test]
fn prompt_accepts_roles_and_parts_of_batch() {
    let model = model("roles", Some("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"));
    let talk = json!([{"role": "developer", "content": "x"},
                      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    let output = prompt(&model, &talk, &[]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[system] x\n[user] a\nb\n", "{}", last_line(&output));
    std::fs::remove_file(model).unwrap();
}

#[test]
fn template_that_cannot_answer_is_refused() {
    for (name, template, why) in [
        ("syntax", "{% for m in messages %}\n{{ m.content }}", "chat_template:2"),
        ("function", "{{ messages[0].content }}\n{{ no_such_function() }}", "chat_template:2"),
        ("filter", "{{ messages[0].content | no_such_filter }}", "no_such_filter"),
        ("always", "{{ raise_exception('never') }}", "never"),
        ("drops", "Hello!", "drops message 1"),
    ] {
        let (model, output) = convert(name, Some(template));
        let line = last_line(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {line}");
        assert!(line.starts_with("tulu-quant: error[TEMPLATE") && line.contains(why), "{name}: {line}");
        assert!(!model.exists(), "{name}");
    }
    // A template that cannot render more than one question is used with a note.
    for (name, template, note) in [
        (
            "single",
            "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}{{ messages[0].content }}",
            "one only",
        ),
        (
            "strict",
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ m.content }}{% endfor %}",
            "no system",
        ),
    ] {
        let (model, output) = convert(name, Some(template));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        assert!(said.lines().any(|line| line.contains("note: ") && line.contains(note)), "{name}: {said}");
        std::fs::remove_file(model).unwrap();
    }
}

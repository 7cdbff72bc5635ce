//! The model card of `convert --card`: its statements about the files are true, and it names what is unknown.

use crate::support::checkpoint::bundled;
use crate::support::hub::Server;
use crate::support::{last_line, run, sha256, tulu_quant};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Converts the bundled checkpoint, served as `id`. Returns the hub, the output folder and the card.
fn card(id: &str) -> (Server, PathBuf, String) {
    let hub = Server::start();
    hub.add(id, &bundled());
    let out = hub.dir().join("out");
    let output = run(hub.command().args(["convert", id, "--card", "-q", "Q4_K_M,Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(out.join("README.md")).unwrap();
    (hub, out, text)
}

/// Parses the front matter: scalars and flat lists, every value a JSON string.
fn front(card: &str) -> HashMap<String, Vec<String>> {
    let (front, _) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    let mut key = String::new();
    for line in front.lines() {
        let value = if let Some(item) = line.strip_prefix("- ") {
            item
        } else {
            let (name, rest) = line.split_once(':').unwrap();
            name.clone_into(&mut key);
            assert!(all.insert(key.clone(), Vec::new()).is_none(), "{key} stands twice");
            rest.trim()
        };
        if !value.is_empty() {
            all.get_mut(&key).unwrap().push(serde_json::from_str(value).unwrap());
        }
    }
    all
}

/// Asserts what every card says about the files beside it.
fn is_true(out: &Path, card: &str) {
    for name in fs::read_dir(out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()) {
        if !name.ends_with(".gguf") {
            continue;
        }
        let bytes = fs::read(out.join(&name)).unwrap();
        let hash = sha256(&bytes);
        assert!(card.contains(&format!("\n{hash}  {name}\n")), "{name}");
        assert!(card.contains(&format!(" | {} | ", bytes.len())), "{name}");
    }
    // the bytes of Tulu's format, with the last newline
    let bytes = "3c 7c 75 73 65 72 7c 3e 0a 48 65 6c 6c 6f 0a 3c 7c 61 73 73 69 73 74 61 6e 74 7c 3e 0a\n";
    assert!(card.contains(bytes) && card.contains("<|user|>\nHello\n<|assistant|>\n"), "{card}");
    assert!(card.contains("Hi! How can I help?</s>\n<|user|>\n"), "{card}");
    assert!(card.contains("no place for a system message"), "{card}");
    assert!(card.contains("memory at 1024 tokens") && card.contains("| 5508352 |"), "{card}");
}

#[test]
fn tulu_2_card_has_both_licences_and_its_paper() {
    let (hub, out, card) = card("allenai/tulu-2-dpo-13b");
    is_true(&out, &card);
    let front = front(&card);
    let one = |key: &str| front[key].join("|");
    assert_eq!(one("license"), "other");
    assert_eq!(one("license_name"), "ai2-impact-license-low-risk");
    assert_eq!(one("license_link"), "https://allenai.org/impact-license");
    assert_eq!(one("base_model"), "allenai/tulu-2-dpo-13b");
    assert_eq!(one("base_model_relation"), "quantized");
    assert_eq!(one("language"), "en");
    assert!(front["tags"].iter().any(|tag| tag == "gguf"));
    assert!(card.contains(&hub.commit("allenai/tulu-2-dpo-13b")));
    assert!(card.contains("Llama 2 is licensed under the LLAMA 2 Community License"), "{card}");
    assert!(card.contains("2311.10702") && !card.contains("2406.09279"), "{card}");
    assert!(card.contains("| MT-Bench | 7 |") || card.contains("| MT-Bench | 7.0 |"), "{card}");
}

#[test]
fn tulu_2_5_card_is_apache_over_llama_2_and_cites_both_papers() {
    let (_hub, out, card) = card("allenai/tulu-v2.5-ppo-13b-uf-mean");
    is_true(&out, &card);
    let front = front(&card);
    assert_eq!(front["license"], ["apache-2.0"]);
    assert!(!front.contains_key("license_name"));
    assert!(card.contains("LLAMA 2 Community License"), "{card}");
    assert!(card.contains("2311.10702") && card.contains("2406.09279"), "{card}");
}

#[test]
fn cards_of_models_on_llama_3_name_what_its_licence_asks_for() {
    let (_hub, out, card_3) = card("allenai/Llama-3.1-Tulu-3-8B");
    is_true(&out, &card_3);
    assert_eq!(front(&card_3)["license"], ["llama3.1"]);
    for part in
        ["Built with Llama\"", "Llama 3.1 is licensed under the Llama 3.1 Community License", "Gemma", "2411.15124"]
    {
        assert!(card_3.contains(part), "{part}: {card_3}");
    }
    let (_hub, _out, card_2) = card("allenai/llama-3-tulu-2-8b");
    assert_eq!(front(&card_2)["license"], ["apache-2.0"]);
    assert!(card_2.contains("Meta Llama 3 is licensed under") && card_2.contains("2311.10702"), "{card_2}");
    assert!(!card_2.contains("LLAMA 2"), "{card_2}");
}

#[test]
fn card_of_another_repository_repeats_its_own_card() {
    let hub = Server::start();
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(bundled())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("README.md"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.push(("README.md".into(), b"---\nlicense: mit\nlanguage:\n- de\n---\n# Mine\n".to_vec()));
    files.push(("LICENSE.txt".into(), b"MIT".to_vec()));
    hub.add_files("me/mine", files);
    let out = hub.dir().join("out");
    let output = run(hub.command().args(["convert", "me/mine", "--card", "-q", "Q8_0", "-o"]).arg(&out), b"");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    is_true(&out, &card);
    let front = front(&card);
    assert_eq!((front["license"].join(""), front["language"].join("")), ("mit".into(), "de".into()));
    assert!(card.contains("`LICENSE.txt`") && !card.contains("LLAMA") && !card.contains("bibtex"), "{card}");
}

fn convert_folder(out: &Path, args: &[&str]) -> Output {
    run(tulu_quant().arg("convert").arg(bundled()).args(["--card", "-q", "Q8_0", "-o"]).arg(out).args(args), b"")
}

#[test]
fn card_of_a_folder_invents_nothing_and_replaces_only_own_cards() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    assert_eq!(convert_folder(out, &[]).status.code(), Some(0));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    is_true(out, &card);
    let front = front(&card);
    assert!(!front.contains_key("license") && !front.contains_key("base_model"), "{card}");
    assert!(card.contains("does not say under which licence") && card.contains("is not recorded"), "{card}");
    // the program's own card is replaced
    fs::remove_file(out.join("tulu-tiny-Q8_0.gguf")).unwrap();
    assert_eq!(convert_folder(out, &[]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(out.join("README.md")).unwrap(), card);
    // a user's card is not, and the error comes before any work
    fs::remove_file(out.join("tulu-tiny-Q8_0.gguf")).unwrap();
    fs::write(out.join("README.md"), "mine").unwrap();
    let refused = convert_folder(out, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(last_line(&refused).contains("error[OUTPUT_EXISTS]") && last_line(&refused).contains("README.md"));
    assert_eq!(fs::read_to_string(out.join("README.md")).unwrap(), "mine");
    assert!(!out.join("tulu-tiny-Q8_0.gguf").exists());
    assert_eq!(convert_folder(out, &["--force"]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(out.join("README.md")).unwrap(), card);
}

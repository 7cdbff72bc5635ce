//! Renders the card as Markdown.

use super::facts::{Card, GENERATED_BY, specials};
use crate::model::eval_record::Distance;
use crate::model::registry::ModelKind;
use crate::table;
use std::fmt::Write as _;

const TULU_2: &str = "\
@misc{ivison2023camels,
  title         = {Camels in a Changing Climate: Enhancing LM Adaptation with Tulu 2},
  author        = {Hamish Ivison and Yizhong Wang and Valentina Pyatkin and Nathan Lambert and Matthew Peters and Pradeep Dasigi and Joel Jang and David Wadden and Noah A. Smith and Iz Beltagy and Hannaneh Hajishirzi},
  year          = {2023},
  eprint        = {2311.10702},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CL}
}
";

const TULU_2_5: &str = "\
@misc{ivison2024unpacking,
  title         = {Unpacking DPO and PPO: Disentangling Best Practices for Learning from Preference Feedback},
  author        = {Hamish Ivison and Yizhong Wang and Jiacheng Liu and Zeqiu Wu and Valentina Pyatkin and Nathan Lambert and Noah A. Smith and Yejin Choi and Hannaneh Hajishirzi},
  year          = {2024},
  eprint        = {2406.09279},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CL}
}
";

const TULU_3: &str = "\
@misc{lambert2024tulu3,
  title         = {Tulu 3: Pushing Frontiers in Open Language Model Post-Training},
  author        = {Nathan Lambert and Jacob Morrison and Valentina Pyatkin and Shengyi Huang and Hamish Ivison and Faeze Brahman and Lester James V. Miranda and Alisa Liu and Nouha Dziri and Shane Lyu and Yuling Gu and Saumya Malik and Victoria Graf and Jena D. Hwang and Jiangjiang Yang and Ronan Le Bras and Oyvind Tafjord and Chris Wilhelm and Luca Soldaini and Noah A. Smith and Yizhong Wang and Pradeep Dasigi and Hannaneh Hajishirzi},
  year          = {2024},
  eprint        = {2411.15124},
  archivePrefix = {arXiv},
  primaryClass  = {cs.CL}
}
";

impl Card<'_> {
    /// Returns the whole text of the card.
    pub(super) fn text(&self) -> String {
        let parts = [
            self.front(),
            format!("{GENERATED_BY}\n"),
            self.head(),
            self.files(),
            self.measured(),
            self.prompt(),
            self.run(),
            self.results(),
            self.terms(),
            self.citation(),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
    }

    /// Returns the YAML front matter, which the Hub reads.
    fn front(&self) -> String {
        // a JSON string is a valid YAML string
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut out = "---\n".to_owned();
        let mut put = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                out += &format!("{key}: {}\n", quoted(value));
            }
        };
        put("license", self.licence.id.as_deref());
        put("license_name", self.licence.name.as_deref());
        put("license_link", self.licence.link.as_deref());
        let id = self.repo.as_ref().map(|repo| repo.id());
        put("base_model", id.as_deref());
        put("base_model_relation", id.as_ref().map(|_| "quantized"));
        put("pipeline_tag", Some("text-generation"));
        put("library_name", Some("gguf"));
        let mut list = |key: &str, values: &[&str]| {
            if !values.is_empty() {
                out += &format!("{key}:\n");
                values.iter().for_each(|value| out += &format!("- {}\n", quoted(value)));
            }
        };
        list("language", &self.licence.languages.iter().map(String::as_str).collect::<Vec<_>>());
        let family: &[&str] = if self.entry.is_some() { &["gguf", "llama", "tulu"] } else { &["gguf", "llama"] };
        list("tags", family);
        out + "---\n"
    }

    fn head(&self) -> String {
        let source = self.source;
        let c = &source.config;
        let mut out = format!("# {} in GGUF\n\n", markdown(&source.name()));
        match (&self.repo, &source.provenance.revision) {
            (Some(repo), revision) => {
                let id = repo.id();
                let at = revision.as_ref().map_or_else(
                    || "at a commit that is not recorded".to_owned(),
                    |r| format!("at commit [`{r}`](https://huggingface.co/{id}/tree/{r})"),
                );
                out += &format!("Quantized from [{id}](https://huggingface.co/{id}) {at}.");
            }
            (None, Some(revision)) => {
                out += &format!(
                    "Quantized from a repository on the Hub at commit `{revision}`; its name is not recorded in the folder \
                     that was converted."
                );
            }
            (None, None) => out += "Quantized from a local folder; where that came from is not recorded in it.",
        }
        if let Some(entry) = &self.entry {
            out += match entry.kind {
                ModelKind::Dpo => " The model was trained by Ai2 with direct preference optimisation.",
                ModelKind::Ppo => " The model was trained by Ai2 with proximal policy optimisation.",
                ModelKind::Rlvr => " The model was trained by Ai2 with reinforcement learning with verifiable rewards.",
                _ => " The model was trained by Ai2 with supervised fine-tuning.",
            };
        }
        let _ = write!(
            out,
            "\n\nConverted with tulu-quant {}; types as llama.cpp's own rules choose them.\n\n\
             | | |\n|---|---|\n| weights | {} |\n| layers, width, feed-forward width | {}, {}, {} |\n\
             | attention heads, key-value heads, head width | {}, {}, {} |\n| vocabulary | {} |\n| context | {} tokens |\n",
            env!("CARGO_PKG_VERSION"),
            self.n_params,
            c.num_hidden_layers,
            c.hidden_size,
            c.intermediate_size,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            c.vocab_size,
            c.max_position_embeddings,
        );
        out
    }

    fn files(&self) -> String {
        let n_ctx = self.source.config.max_position_embeddings;
        let mut out = format!(
            "## Files\n\n| type | file | bytes | size | bits a weight | memory at {n_ctx} tokens |\n\
             |---|---|--:|--:|--:|--:|\n"
        );
        for file in &self.files {
            let (size, memory, bits) = (table::bytes(file.bytes), table::bytes(file.memory), file.bits_per_weight);
            let (name, kind) = (file.name.replace(['`', '|'], " "), file.ftype);
            out += &format!("| {kind} | `{name}` | {} | {size} | {bits:.2} | {memory} |\n", file.bytes);
        }
        out += &format!(
            "\nMemory is for one conversation without a GPU: weights, 16-bit keys and values for all {n_ctx} tokens, and \
             working memory. A smaller window (`-c`) needs less.\n\nChecksums, for `sha256sum -c`:\n\n```\n"
        );
        self.files.iter().for_each(|file| out += &format!("{}  {}\n", file.sha256, file.name));
        out + "```\n"
    }

    /// Returns the results of the evaluation.
    fn measured(&self) -> String {
        let Some((_, first)) = self.results.first() else { return String::new() };
        let base = self.results.iter().find_map(|(_, result)| result.distance.as_ref().map(|d| d.base.as_str()));
        let against = base.map_or_else(String::new, |base| format!(", against {base}"));
        let mut out = format!(
            "## What quantization costs\n\nMeasured with `tulu-quant eval` on {} of {} tokens of {} (SHA-256 `{}`){against}. PPL is \
             the perplexity, KL the Kullback-Leibler divergence of the next token's distribution from that of the base in \
             nats, \"same top\" the share of tokens for which both have the same most likely token.\n\n\
             | type | PPL | KL mean | median | 99 % | max | same top |\n|---|--:|--:|--:|--:|--:|--:|\n",
            table::count(u64::from(first.chunks), "chunk", "chunks"),
            first.context,
            markdown(&first.text),
            first.text_sha256,
        );
        for (ftype, result) in self.results {
            let [ppl, error] = result.ppl;
            let _ = match &result.distance {
                None => writeln!(out, "| {ftype} | {ppl:.4} ± {error:.4} | | | | | |"),
                Some(Distance { kl: [mean, error_of_mean, median, p99, max], same_top, .. }) => writeln!(
                    out,
                    "| {ftype} | {ppl:.4} ± {error:.4} | {mean:.5} ± {error_of_mean:.5} | {median:.5} | {p99:.4} | {max:.3} | \
                     {:.2} % |",
                    100.0 * same_top
                ),
            };
        }
        out
    }

    fn prompt(&self) -> String {
        let [question, conversation] = &self.prompts;
        let bytes: Vec<String> = question.bytes().map(|b| format!("{b:02x}")).collect();
        let end = match question.ends_with('\n') {
            true if question.contains("<|assistant|>") => {
                "The newline at its end is part of it: without it the model answers worse."
            }
            true => "The newline at its end is part of it.",
            false => "It ends without a newline.",
        };
        let own = match &self.source.chat_template {
            Some(_) => "The files carry the checkpoint's own chat template.",
            None => "The checkpoint has no chat template, and so the files have none; shown is Tulu's format.",
        };
        let mut out = format!(
            "## Prompt format\n\n{own} A question (\"Hello\"), to the byte:\n\n```\n{}\n```\n\n```\n{}\n```\n\n{end} The \
             tokenizer adds `{}` in front. A second question:\n\n```\n{}\n```\n",
            question.trim_end_matches('\n'),
            bytes.join(" "),
            specials(self.source)[0],
            conversation.trim_end_matches('\n'),
        );
        if !self.has_system {
            out += "\nThe template has no place for a system message and leaves it out; tulu-quant writes it as \
                    `<|system|>`, a newline, the text and a newline, the format that Tulu was trained with.\n";
        }
        out
    }

    fn run(&self) -> String {
        let file = self.files.first().map_or("MODEL.gguf", |file| file.name.as_str());
        let file =
            if file.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c)) { "MODEL.gguf" } else { file };
        let mut out = format!(
            "## How to run\n\n```\ntulu-quant chat ./{file}\ntulu-quant batch ./{file} -i prompts.jsonl -o answers.jsonl\n\
             llama-server -m {file} --jinja\nllama-cli -m {file} --jinja\n```\n\n"
        );
        out +=
            "llama.cpp renders the template in the file with `--jinja`, which newer versions do without being told. ";
        if self.prompts[0].contains("<|user|>") {
            let eos = specials(self.source)[1];
            let ollama = match eos {
                "</s>" => {
                    "ollama's built-in choice for such a template is Zephyr's, which ends every turn with `</s>`, the user's \
                     too"
                }
                _ => "ollama finds none of its formats for this template and sends the bare text",
            };
            out += &format!(
                "Without it (`--no-jinja`, older versions, and programs that call `llama_chat_apply_template`) one of its \
                 built-in formats is taken for this one, GLM-Edge's: it loses the newline before and after \
                 `<|assistant|>` and the `{eos}` after earlier answers, and answers get worse. If there is no other way, \
                 `--chat-template falcon3` is right for a single question and leaves out only the `{eos}` after earlier \
                 answers. {ollama}: write the format above into the Modelfile's `TEMPLATE` instead.\n"
            );
        } else {
            out += "Without it one of its built-in formats is guessed, which may be another one.\n";
        }
        out
    }

    fn results(&self) -> String {
        let Some(scores) = self.entry.as_ref().and_then(|entry| entry.scores) else { return String::new() };
        let mut out = format!(
            "## Published results\n\nOf the unquantized model, from {}. The files here were not measured on these.\n\n\
             | measure | value |\n|---|--:|\n",
            scores.source
        );
        scores.values.iter().for_each(|(name, value)| out += &format!("| {name} | {value} |\n"));
        out
    }

    fn terms(&self) -> String {
        let mut out = format!("## Licence\n\n{}\n", self.licence.terms);
        if !self.licence_files.is_empty() {
            let names: Vec<String> = self.licence_files.iter().map(|name| format!("`{name}`")).collect();
            let pronoun = if names.len() == 1 { "it" } else { "them" };
            out += &format!("\nWith the checkpoint came {}: publish {pronoun} beside these files.\n", names.join(", "));
        }
        out
    }

    fn citation(&self) -> String {
        let Some(entry) = &self.entry else { return String::new() };
        let works = match entry.name {
            name if name.starts_with("tulu-3") => vec![TULU_3],
            name if name.contains("v2.5") => vec![TULU_2_5, TULU_2],
            _ => vec![TULU_2],
        };
        format!("## Citation\n\n```bibtex\n{}```\n", works.join("\n"))
    }
}

/// Escapes a name for Markdown text.
fn markdown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if "\\`*_{}[]<>|#".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

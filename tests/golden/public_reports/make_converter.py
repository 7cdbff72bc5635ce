"""Writes converter.json beside it: the keys that llama.cpp's converter gives to folders, by gguf-py's own classes.

pip install gguf==0.19.0; python make_converter.py. `write` has whole files, `edit` keys that replace those of a JSON file
of tests/fixtures/tulu-tiny, `keys` what comes out, without the name and what is computed from it.
"""
import json
import os
import shutil
import tempfile
from pathlib import Path

import gguf
import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURE = os.path.join(HERE, "../../fixtures/tulu-tiny")
CARD = """---
license: other
license_name: ai2-impact-license-low-risk
license_link: https://allenai.org/impact-license
base_model: meta-llama/Llama-2-13b-hf
datasets:
- allenai/tulu-v2-sft-mixture
- HuggingFaceH4/ultrafeedback_binarized
- https://huggingface.co/datasets/x/y
language:
- en
- no
tags: [a, "b c"]
pipeline_tag: text-generation
model_creator: Ai2
description: >
  A model
  of two lines
model-index:
- name: x
  results: [{task: {type: y}}]
---
# Card
license: none of this
"""
TOKENIZER = {
    "added_tokens": [
        {"id": 0, "content": "<unk>", "special": True},
        {"id": 1, "content": "<s>", "special": True},
        {"id": 2, "content": "</s>", "special": True},
    ],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ],
    },
    "pre_tokenizer": None,
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<s>", "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
    },
    "model": {"type": "BPE", "vocab": {}, "merges": []},
}
TEXTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CASES = {
    "plain": ({}, {}),
    "card": ({"README.md": CARD}, {}),
    "card of merges": (
        {"README.md": "---\nbase_model:\n- a/b-v2\n- https://huggingface.co/c/d-3\n- name: E\n  repo_url: https://e\n---\n"},
        {},
    ),
    "card without front matter": ({"README.md": "# Card\n---\nlicense: mit\n---\n"}, {}),
    "card of Windows": ({"README.md": "---\r\nlicense: mit\r\ntags:\r\n- x\r\n---\r\n"}, {}),
    "licences": ({"README.md": "---\nlicense: [mit, apache-2.0]\nauthor: me\nversion: v3\n---\n"}, {}),
    "sampling": ({}, {"generation_config.json": {"temperature": 0.6, "top_p": 0.9, "top_k": 50, "do_sample": True}}),
    "tokenizer.json": ({"tokenizer.json": json.dumps(TOKENIZER)}, {"tokenizer_config.json": TEXTS}),
    "tokenizer.json with padding": (
        {"tokenizer.json": json.dumps(TOKENIZER)},
        {"tokenizer_config.json": {**TEXTS, "pad_token": "</s>"}},
    ),
    "tokenizer.json that says it alone": (
        {"tokenizer.json": json.dumps(TOKENIZER)},
        {"tokenizer_config.json": {**TEXTS, "add_bos_token": None, "add_eos_token": None}},
    ),
    "numbers of config.json": ({}, {"config.json": {"unk_token_id": 0, "pad_token_id": 2, "sep_token_id": 2}}),
    "chat_template.json": (
        {"chat_template.json": json.dumps({"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"})},
        {"tokenizer_config.json": {"chat_template": None}},
    ),
}


def as_f32(value):
    """The shortest number that is the same as a 32-bit float, which is how `inspect` prints one."""
    return float(str(numpy.float32(value))) if isinstance(value, float) else value


def keys(folder):
    writer = gguf.GGUFWriter(None, "llama")
    gguf.Metadata.load(None, folder, None, 0).set_gguf_meta_model(writer)
    gguf.SpecialVocab(folder, n_vocab=1536).add_to_gguf(writer, quiet=True)
    found = {key: value.value for data in writer.kv_data for key, value in data.items()}
    for key in ("general.architecture", "general.name", "general.size_label"):
        found.pop(key, None)
    return {key: as_f32(value) for key, value in found.items()}


def main():
    made = {}
    for name, (write, edit) in CASES.items():
        with tempfile.TemporaryDirectory() as at:
            folder = Path(at) / "source"
            folder.mkdir()
            for file in ("config.json", "generation_config.json", "tokenizer_config.json"):
                shutil.copy(os.path.join(FIXTURE, file), folder)
            for file, text in write.items():
                (folder / file).write_text(text, newline="")
            for file, change in edit.items():
                said = json.loads((folder / file).read_text())
                said.update(change)
                said = {key: value for key, value in said.items() if value is not None}
                (folder / file).write_text(json.dumps(said))
            made[name] = {"write": write, "edit": edit, "keys": keys(folder)}
    out = {"oracle": "gguf 0.19.0", "cases": made}
    with open(os.path.join(HERE, "converter.json"), "w", encoding="utf-8") as file:
        json.dump(out, file, ensure_ascii=False, indent=1, sort_keys=True)


main()

"""Writes transformers.json beside it: what AutoTokenizer makes of each folder of cases.json (see README.md).

python make.py, once with each version of Transformers. No torch is needed.
"""
import json
import os
import shutil
import sys
import tempfile

from transformers import AutoTokenizer, __version__

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURE = os.path.join(HERE, "../../fixtures/tulu-tiny")


def folder(case, at):
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(FIXTURE, name), at)
    with open(os.path.join(at, "tokenizer.model"), "ab") as file:
        file.write(bytes.fromhex(case.get("append", "")))
    for name, change in case["edit"].items():
        path = os.path.join(at, name)
        said = json.load(open(path, encoding="utf-8"))
        said.update(change)
        json.dump(said, open(path, "w", encoding="utf-8"))
    for name, text in case["write"].items():
        path = os.path.join(at, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w", encoding="utf-8", newline="").write(text)


def main():
    cases = json.load(open(os.path.join(HERE, "cases.json"), encoding="utf-8"))
    path = os.path.join(HERE, "transformers.json")
    golden = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else {}
    made = golden[__version__] = {}
    for name, case in cases["cases"].items():
        with tempfile.TemporaryDirectory() as at:
            folder(case, at)
            tokenizer = AutoTokenizer.from_pretrained(at)
            text = tokenizer.apply_chat_template(cases["messages"], tokenize=False, add_generation_prompt=True)
            # a template that writes no BOS gets the tokenizer's
            ids = tokenizer(text, add_special_tokens=not text.startswith("<s>"))["input_ids"]
            made[name] = {"eos": tokenizer.eos_token_id, "text": text, "ids": ids}
    json.dump(golden, open(path, "w", encoding="utf-8"), ensure_ascii=False, indent=1, sort_keys=True)
    print(__version__, file=sys.stderr)


main()

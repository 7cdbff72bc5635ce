#!/usr/bin/env python3
"""Summarise a GGUF file as JSON: every key with its type and value, every tensor with its type, dimensions and sha256.
Long arrays and tensors are kept as hashes. It made tulu-tiny-bf16.json from what llama.cpp's own converter writes:

  python convert_hf_to_gguf.py tests/fixtures/tulu-tiny --outtype auto --outfile tulu-tiny.gguf
  python quantize/tests/golden/summarise.py tulu-tiny.gguf > quantize/tests/golden/tulu-tiny-bf16.json

likewise tulu3-tiny-bf16.json, with `get_vocab_base_pre` replaced by a function that returns "llama-bpe": the converter does
not know the hash of that vocabulary. Both with convert_hf_to_gguf.py of llama-cpp-python 0.3.36 (ggml 0.25), transformers
4.57.1, torch 2.15.0. Needs the gguf package.
"""
import hashlib
import json
import struct
import sys

import gguf

PACK = {"INT32": "<i", "FLOAT32": "<f"}


def element(kind, value):
    if kind == "STRING":
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw
    return struct.pack(PACK[kind], value)


def summary(path):
    reader = gguf.GGUFReader(path)
    keys = {}
    for name, field in reader.fields.items():
        if name.startswith("GGUF."):
            continue
        kinds, value = [t.name for t in field.types], field.contents()
        if kinds[0] == "ARRAY":
            raw = b"".join(element(kinds[1], v) for v in value)
            value = {"len": len(value), "sha256": hashlib.sha256(raw).hexdigest()}
        keys[name] = {"type": "/".join(kinds).lower(), "value": value}
    tensors = {t.name: {"type": t.tensor_type.name.lower(), "dims": [int(d) for d in t.shape],
                        "sha256": hashlib.sha256(t.data.tobytes()).hexdigest()} for t in reader.tensors}
    return {"keys": keys, "tensors": tensors}


if __name__ == "__main__":
    json.dump(summary(sys.argv[1]), sys.stdout, indent=1, sort_keys=True)
    print()

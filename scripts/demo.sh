#!/usr/bin/env bash
# Runs `make demo` after the build: converts a checkpoint, chats with it and runs it in batch, in a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${CARGO_TARGET_DIR:-target}/release/tulu-quant
checkpoint=tests/fixtures/tulu-tiny
work=$(mktemp -d "${TMPDIR:-/tmp}/tulu-quant-demo.XXXXXX")

bold= dim= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\033[1m' dim=$'\033[2m' plain=$'\033[0m'
fi
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { # prints the command as a user types it
    local line='$ tulu-quant' arg
    for arg in "$@"; do
        case $arg in *' '*) line+=" '$arg'" ;; *) line+=" $arg" ;; esac
    done
    printf '%s%s%s\n' "$dim" "$line" "$plain"
}
run() {
    show "$@"
    "$program" "$@"
}

heading "1. Is the build right for this machine?"
run doctor

heading "2. Convert: one read of the checkpoint, three quantized files, no Python, no intermediate file."
echo "   (tulu-tiny is a demonstration of 5.5 million parameters that lives in this repository; for the real thing"
echo "   the same command takes the folder of tulu-2-13b: 26 GB read, 31 GB written, the same small memory.)"
run convert "$checkpoint" -q Q4_K_M,Q5_K_M,Q8_0 -o "$work"

heading "3. Chat: two turns. The second one needs the first; only its new tokens are computed."
model=$work/tulu-tiny-Q4_K_M.gguf
run chat "$model" --temp 0 -p "What is the capital of France?" -p "And of Italy?"

heading "4. What the model really saw: Tulu's format, to the byte."
run prompt "$model" -i scripts/demo/conversation.json

heading "5. Batch: JSONL in, JSONL out. The third line is broken on purpose: it costs one record, not the run."
cp scripts/demo/batch.jsonl "$work/in.jsonl"
run batch "$model" -i "$work/in.jsonl" -o "$work/out.jsonl" || [ $? -eq 1 ]
cat "$work/out.jsonl"

heading "Everything is in $work. Talk to the model yourself: $program chat"

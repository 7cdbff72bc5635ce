#!/usr/bin/env bash
# Checks tulu-quant on a machine with a GPU and writes one page of Markdown to stdout:
#   scripts/gpu-check.sh [MODEL] > gpu.md
# MODEL is a name or GGUF file; without it the bundled demonstration model, which shows that everything works but not how fast.
# It needs a build with a GPU backend (docs/gpu.md). TULU_QUANT_PROGRAM names the program, if not target/release/tulu-quant.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${TULU_QUANT_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/tulu-quant}
export TULU_QUANT_PROGRESS=off
work=$(mktemp -d "${TMPDIR:-/tmp}/tulu-quant-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0

model=${1:-}
if [ -z "$model" ]; then
    "$program" convert tests/fixtures/tulu-tiny -q Q8_0 -o "$work" >"$work/log" 2>&1
    model=$work/tulu-tiny-Q8_0.gguf
fi

# block TITLE COMMAND...: the output under a title; a command that fails is counted and the page goes on.
block() {
    printf '\n## %s\n\n```\n' "$1"
    shift
    "$@" 2>&1 || { echo "FAILED with exit code $?" && failures=$((failures + 1)); }
    printf '```\n'
}

# answers NAME FLAG...: the answers to 100 prompts, greedy, as lines {"prompt", "output"}.
animals=(cat dog fox hen bee owl cow pig ant bat)
places=(farm lake hill town ship cave park road barn moon)
for animal in "${animals[@]}"; do
    for place in "${places[@]}"; do
        echo "Tell me a story about a $animal and a $place."
    done
done >"$work/prompts.txt"
answers() {
    local name=$1 begin=$SECONDS
    shift
    if "$program" batch "$model" -i "$work/prompts.txt" -o "$work/$name.jsonl" --format text -n 64 -c 512 "$@" \
        >"$work/$name.log" 2>&1; then
        printf '%-14s %s of 100 answers equal to those of the CPU, %s s\n' "$name" \
            "$(paste -d '\n' "$work/cpu.jsonl" "$work/$name.jsonl" | awk 'NR % 2 { a = $0; next } a == $0 { n++ } END { print n + 0 }')" \
            "$((SECONDS - begin))"
    else
        printf '%-14s FAILED: %s\n' "$name" "$(tail -n 1 "$work/$name.log")"
        failures=$((failures + 1))
    fi
}

echo "# tulu-quant on a GPU"
echo
echo "$(date -u '+%Y-%m-%d'), $(uname -sm), model $(basename "$model")."
block "Devices" "$program" chat "$model" --list-devices
block "doctor" "$program" doctor
block "Speed" "$program" bench "$model" -ngl 0 -r 3
for layers in auto all; do
    block "Speed, -ngl $layers" "$program" bench "$model" -ngl "$layers" -r 3
done
block "One sequence to 32, -ngl auto" "$program" bench "$model" -ngl auto -p 0 -n 64 -npl 1,4,8,16,32 -r 2

printf '\n## Greedy answers\n\nThe last bits of the logits differ between devices, so a few answers may differ where two tokens are nearly\nequally likely.\n\n```\n'
layers=$("$program" inspect "$model" --json 2>/dev/null | grep -o '"layers":[0-9]*' | head -n 1 | cut -d: -f2 || true)
half=$((${layers:-2} / 2))
answers cpu -ngl 0 -np 8
answers one-layer -ngl 1 -np 8
answers half-1-slot -ngl "$half" -np 1
answers half-8-slots -ngl "$half" -np 8
answers all-1-slot -ngl all -np 1
answers all-8-slots -ngl all -np 8
answers all-32-slots -ngl all -np 32
answers auto -ngl auto -np 8
printf '```\n'

printf '\n## Distributions\n\nThe first row is the CPU, the others are compared with it: KL divergence of the next token.\n\n'
"$program" eval "$model" -ngl 0 --offload "1,$half,all,auto" -c 256 --chunks 8 --markdown 2>"$work/log" ||
    { tail -n 1 "$work/log" && failures=$((failures + 1)); }

# The limit is below what the model needs, so some layers must stay in main memory, and -ngl all must be refused.
size=$(($(wc -c <"$(ls "$model" 2>/dev/null || echo /dev/null)") / 1048576))
printf '\n## Little memory (TULU_QUANT_DEVICE_MEMORY=%s MiB)\n\n```\n' "$((size / 2 + 1))"
export TULU_QUANT_DEVICE_MEMORY=$((size / 2 + 1))MiB
"$program" chat "$model" -ngl auto --temp 0 -n 16 -c 512 -p "What is the capital of France?" 2>&1 || failures=$((failures + 1))
if "$program" chat "$model" -ngl all --temp 0 -n 16 -c 512 -p "Hello" 2>&1; then
    echo "-ngl all was not refused"
fi
printf '```\n\n%s checks failed.\n' "$failures"
[ "$failures" -eq 0 ]

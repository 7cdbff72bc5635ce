#!/usr/bin/env bash
# Ignored tests need more than the repository. The first word of a test's name is what it needs (shared_, root_, ...):
# each group runs where this exists and is counted elsewhere. Other tests run the child_ tests in a separate process.
# RUNNER=nextest runs them with cargo-nextest.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${RUNNER:-}" = nextest ]; then
    names() { cargo nextest list --release --locked --workspace --run-ignored only -T oneline | awk '{ print $NF }'; }
    run() { cargo nextest run --release --locked --workspace --run-ignored only -E "test(/(^|::)$1_/)"; }
else
    names() { cargo test --release --locked --workspace -- --ignored --list --format terse | sed -n 's/: test$//p'; }
    # shellcheck disable=SC2046 # names have no spaces
    run() { cargo test --release --locked --workspace -- --ignored --exact $(of "$1"); }
fi

all=$(names | sort -u)
of() { grep -E "(^|::)$1_[a-z0-9_]+$" <<<"$all" || true; }
rest=$(grep -vE '(^|::)child_[a-z0-9_]+$' <<<"$all" || true)

group() { # the first word, whether it can run, what it needs
    local count
    count=$(of "$1" | grep -c . || true)
    rest=$(grep -vE "(^|::)$1_[a-z0-9_]+$" <<<"$rest" || true)
    if [ "$2" = yes ] && [ "$count" -gt 0 ]; then
        echo "running $count test(s) that need $3"
        run "$1"
    else
        echo "SKIPPED $count test(s) that need $3"
    fi
}

shared=${TULU_QUANT_SHARED:-../shared}
python=${PYTHON:-python3}
has() { "$python" -c "import $1" 2>/dev/null && echo yes || echo no; }
group shared "$([ -d "$shared/data/llama2" ] && echo yes || echo no)" "the Llama 2 tokenizer and prompt cases in $shared"
group root "$([ "$(id -u)" -eq 0 ] && [ "$(uname)" = Linux ] && echo yes || echo no)" "root on Linux"
group python "$(has 'huggingface_hub, openai, ollama, jsonschema')" "huggingface_hub, openai, ollama and jsonschema ($python)"
group tools "$([ -d "$shared/tools" ] && has 'numpy, torch' || echo no)" "the tool in $shared/tools and PyTorch ($python)"
browser=${TULU_QUANT_BROWSER:-$(command -v chromium chromium-browser google-chrome google-chrome-stable chrome | head -n 1 || true)}
group browser "$([ -n "$browser" ] && "$browser" --version >/dev/null 2>&1 && echo yes || echo no)" "Chromium on PATH or in TULU_QUANT_BROWSER"
group llamacpp "$([ -d "${TULU_QUANT_LLAMA_TOOLS:-}" ] && echo yes || echo no)" "llama.cpp's tools (TULU_QUANT_LLAMA_TOOLS is their folder)"
# scripts/vulkan-tests.sh builds a backend and runs these, on a software device where there is no card.
gpu=${TULU_QUANT_GPU_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/tulu-quant}
group gpu "$("$gpu" chat --list-devices 2>/dev/null | grep -q . && echo yes || echo no)" "a program with a GPU backend and a device (scripts/vulkan-tests.sh)"
group torch "$(has torch)" "PyTorch ($python)"
# These take minutes (kills at random moments, ten thousand lines); the gate runs them.
group long "$([ "${TULU_QUANT_LONG:-}" = 1 ] && echo yes || echo no)" "some minutes (TULU_QUANT_LONG=1)"

rest=$(grep . <<<"$rest" || true)
if [ -n "$rest" ]; then
    if [ "$(uname -m)" = x86_64 ]; then
        printf 'ignored, but the first word of the name does not say what they need:\n%s\n' "$rest" >&2
        exit 1
    fi
    echo "SKIPPED $(wc -l <<<"$rest") test(s) that compare bytes on x86-64 only"
fi

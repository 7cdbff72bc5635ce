#!/usr/bin/env bash
# The tests that need more than the repository: each group runs where its need is met, and is counted where it is not.
set -euo pipefail
cd "$(dirname "$0")/.."

shared=${TULU_QUANT_SHARED:-../shared}
group() { # name prefix, whether it can run, what it needs
    local count
    count=$(grep -rhoE "fn $1_[a-z0-9_]+" tests src quantize vendor/src vendor/tests --include=*.rs | sort -u | wc -l)
    if [ "$2" = yes ]; then
        echo "running $count test(s) that need $3"
        cargo test --release --workspace -- --ignored "$1_"
    else
        echo "SKIPPED $count test(s) that need $3"
    fi
}
group shared "$([ -d "$shared/data/llama2" ] && echo yes || echo no)" "the Llama 2 tokenizer and prompt cases in $shared"
group root "$([ "$(id -u)" -eq 0 ] && [ "$(uname)" = Linux ] && echo yes || echo no)" "root on Linux"
python=${PYTHON:-python3}
group python "$("$python" -c 'import huggingface_hub' 2>/dev/null && echo yes || echo no)" "huggingface_hub ($python)"
group made "$([ -d "$shared/tools" ] && "$python" -c 'import numpy, torch' 2>/dev/null && echo yes || echo no)" "the tool in $shared/tools and PyTorch ($python)"
# Minutes of kills at random moments and of ten thousand lines; the gate runs them.
group long "$([ "${TULU_QUANT_LONG:-}" = 1 ] && echo yes || echo no)" "some minutes (TULU_QUANT_LONG=1)"
group torch "$("$python" -c 'import torch' 2>/dev/null && echo yes || echo no)" "PyTorch ($python)"

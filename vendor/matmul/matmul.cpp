// Chooses the path for this CPU. The table has the minimum number of columns at which a path is faster than ggml, by
// type.

#include "matmul.h"

#include "ggml.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

namespace tulu {

#if defined(__x86_64__)
extern const path AMX_BF16, AVX512_VNNI, AVX_VNNI, AVX2;
static const path * const PATHS[] = { &AMX_BF16, &AVX512_VNNI, &AVX_VNNI, &AVX2, nullptr };
#elif defined(__aarch64__)
extern const path NEON_DOTPROD;
static const path * const PATHS[] = { &NEON_DOTPROD, nullptr };
#else
static const path * const PATHS[] = { nullptr };
#endif

const path * path_number(int i) {
    for (const path * const * one = PATHS; *one; one++) {
        if (i-- == 0) {
            return *one;
        }
    }
    return nullptr;
}

// The types for which a path was seen to be faster than ggml, and the minimum number of columns. ggml computes all
// others. Times are of rows of 4096 weights, against the faster of ggml's kernels for stored and for repacked weights.
//   avx512-vnni  Emerald Rapids without AMX, 2 cores: q4_K is 1.4 to 2.0 times as fast from 2 columns on, q6_K 1.3 to
//                2.7 times; q8_0 is as fast as ggml's with 2 columns and 1.4 to 3.8 times as fast from 4 on. With one
//                column, weights in a cache take 0.7 to 1.2 times ggml's time. But a model's weights come from memory:
//                1.1 B parameters at Q4_K_M take 71 ms for a token, with ggml 102 ms (repacked 82); at Q8_0 112 and 126
//                (1 core). So these kernels compute every number of columns, and a result does not depend on it.
//   avx2         the same CPU, 1 core, with a ggml compiled for AVX2: q4_K 1.3 to 1.5 times from 2 columns on, q5_K 1.5
//                to 2.8, q6_K 1.3 to 1.6 from 4 on, q8_0 1.3 from 16 on.
//   avx-vnni     the same ggml, and the same instruction in the encoding of AVX-512. Only K-quants: for other types ggml
//                also uses the instruction, and a CPU that has it was not at hand.
//   amx-bf16     a Xeon with AMX, 2 cores, against the faster of ggml's kernels with its AMX among them: q4_K is 1.04 times as
//                fast with 32 columns, 1.7 with 64, 2.2 with 128, 2.8 with 512; q6_K 1.8, 2.8, 3.0, 3.4; q8_0 1.05, 1.7,
//                2.4, 3.0. Below 32 columns avx512-vnni computes; there ggml's AMX kernel, which needs repacked weights,
//                is 1.1 times as fast for q4_K (16 columns) and 1.5 times for q8_0 (8 and 16).
//   neon-dotprod  its results are tested (scripts/test-aarch64.sh), but its speed was never measured, so ggml computes.
struct gain {
    const char * path;
    int type;
    int64_t columns;
};

static const gain GAINS[] = {
    { "amx-bf16", GGML_TYPE_Q4_K, 32 },    { "amx-bf16", GGML_TYPE_Q5_K, 32 },    { "amx-bf16", GGML_TYPE_Q6_K, 32 },
    { "amx-bf16", GGML_TYPE_Q8_0, 32 },    { "amx-bf16", GGML_TYPE_Q3_K, 32 },    { "amx-bf16", GGML_TYPE_Q2_K, 32 },
    { "amx-bf16", GGML_TYPE_Q4_0, 32 },    { "amx-bf16", GGML_TYPE_Q4_1, 32 },    { "amx-bf16", GGML_TYPE_Q5_0, 32 },
    { "amx-bf16", GGML_TYPE_Q5_1, 32 },    { "amx-bf16", GGML_TYPE_IQ4_NL, 32 },  { "amx-bf16", GGML_TYPE_IQ4_XS, 32 },
    { "avx512-vnni", GGML_TYPE_Q4_K, 1 },  { "avx512-vnni", GGML_TYPE_Q5_K, 1 },  { "avx512-vnni", GGML_TYPE_Q6_K, 1 },
    { "avx512-vnni", GGML_TYPE_Q8_0, 1 },  { "avx512-vnni", GGML_TYPE_Q3_K, 1 },  { "avx512-vnni", GGML_TYPE_Q2_K, 1 },
    { "avx512-vnni", GGML_TYPE_Q4_0, 1 },  { "avx512-vnni", GGML_TYPE_Q4_1, 1 },  { "avx512-vnni", GGML_TYPE_Q5_0, 1 },
    { "avx512-vnni", GGML_TYPE_Q5_1, 1 },  { "avx512-vnni", GGML_TYPE_IQ4_NL, 1 }, { "avx512-vnni", GGML_TYPE_IQ4_XS, 1 },
    { "avx2", GGML_TYPE_Q4_K, 2 },         { "avx2", GGML_TYPE_Q5_K, 2 },         { "avx2", GGML_TYPE_Q6_K, 4 },
    { "avx2", GGML_TYPE_Q8_0, 16 },        { "avx2", GGML_TYPE_Q3_K, 4 },         { "avx2", GGML_TYPE_Q2_K, 4 },
    { "avx2", GGML_TYPE_Q4_0, 4 },         { "avx2", GGML_TYPE_Q4_1, 2 },         { "avx2", GGML_TYPE_Q5_0, 4 },
    { "avx2", GGML_TYPE_Q5_1, 4 },         { "avx2", GGML_TYPE_IQ4_NL, 8 },       { "avx2", GGML_TYPE_IQ4_XS, 4 },
    { "avx-vnni", GGML_TYPE_Q4_K, 2 },     { "avx-vnni", GGML_TYPE_Q5_K, 2 },     { "avx-vnni", GGML_TYPE_Q6_K, 2 },
    { "avx-vnni", GGML_TYPE_Q3_K, 2 },     { "avx-vnni", GGML_TYPE_Q2_K, 2 },
};

int64_t columns_min(const path & kernels, int type) {
    for (const gain & one : GAINS) {
        if (one.type == type && std::strcmp(one.path, kernels.name) == 0) {
            return one.columns;
        }
    }
    return INT64_MAX;
}

const path * choose_path(int type, int64_t depth, int64_t n_columns) {
    for (const path * const * one = PATHS; *one; one++) {
        const path & kernels  = **one;
        const int64_t minimum = columns_min(kernels, type);
        if (!kernels.runs_here()) {
            continue;
        }
        if (n_columns >= minimum) {
            return kernels.supports(type, depth) ? &kernels : nullptr;
        }
        if (minimum == INT64_MAX) {
            return nullptr;  // less capable paths were measured against a ggml without these instructions
        }
    }
    return nullptr;
}

const char * names_of_paths() {
    static const std::string names = [] {
        std::string all;
        for (const path * const * one = PATHS; *one; one++) {
            const auto measured = [&](const gain & g) { return std::strcmp(g.path, (*one)->name) == 0; };
            if ((*one)->runs_here() && std::any_of(std::begin(GAINS), std::end(GAINS), measured)) {
                all += (all.empty() ? "" : ", ") + std::string((*one)->name);
            }
        }
        return all;
    }();
    return names.c_str();
}

}  // namespace tulu

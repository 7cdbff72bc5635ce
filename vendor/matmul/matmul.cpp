// Chooses the path for this CPU. The table has the minimum number of columns at which a path is faster than ggml, by
// type.

#include "matmul.h"

#include "ggml.h"

#include <cstring>

namespace tulu {

#if defined(__x86_64__)
extern const path AVX512_VNNI, AVX_VNNI, AVX2;
static const path * const PATHS[] = { &AVX512_VNNI, &AVX_VNNI, &AVX2, nullptr };
#else
static const path * const PATHS[] = { nullptr };
#endif

char * scratch::take(size_t bytes) {
    constexpr size_t ALIGNMENT = 64;
    if (bytes > size) {
        memory.reset();
        memory.reset(new char[bytes + ALIGNMENT]);
        size = bytes;
    }
    const auto at = reinterpret_cast<uintptr_t>(memory.get());
    return memory.get() + (ALIGNMENT - at % ALIGNMENT) % ALIGNMENT;
}

const path * path_number(int i) {
    for (const path * const * one = PATHS; *one; one++) {
        if (i-- == 0) {
            return *one;
        }
    }
    return nullptr;
}

const path * choose_path(const char * name) {
    for (const path * const * one = PATHS; *one; one++) {
        if ((*one)->runs_here() && (!name || std::strcmp(name, (*one)->name) == 0)) {
            return *one;
        }
    }
    return nullptr;
}

// The types for which a path was measured to be faster than ggml, and the minimum number of columns. ggml computes all
// others. "avx512-vnni": Emerald Rapids without AMX, 2 cores, 4096 x 4096, against the faster of ggml's kernels for
// stored and for repacked weights: q4_K is 1.4 to 2.0 times as fast from 2 columns on, q6_K 1.3 to 2.7 times; q8_0 is
// as fast as ggml's with 2 columns and 1.4 to 3.8 times as fast from 4 on.
struct gain {
    const char * path;
    int type;
    int64_t columns;
};

static const gain GAINS[] = {
    { "avx512-vnni", GGML_TYPE_Q4_K, 2 }, { "avx512-vnni", GGML_TYPE_Q5_K, 2 },   { "avx512-vnni", GGML_TYPE_Q6_K, 2 },
    { "avx512-vnni", GGML_TYPE_Q8_0, 3 }, { "avx512-vnni", GGML_TYPE_Q3_K, 2 },   { "avx512-vnni", GGML_TYPE_Q2_K, 2 },
    { "avx512-vnni", GGML_TYPE_Q4_0, 2 }, { "avx512-vnni", GGML_TYPE_Q4_1, 2 },   { "avx512-vnni", GGML_TYPE_Q5_0, 3 },
    { "avx512-vnni", GGML_TYPE_Q5_1, 2 }, { "avx512-vnni", GGML_TYPE_IQ4_NL, 2 }, { "avx512-vnni", GGML_TYPE_IQ4_XS, 2 },
};

int64_t columns_min(const path & kernels, int type) {
    for (const gain & one : GAINS) {
        if (one.type == type && std::strcmp(one.path, kernels.name) == 0) {
            return one.columns;
        }
    }
    return INT64_MAX;
}

}  // namespace tulu

// Measures how many multiply-adds per second the CPU can execute, with the instruction that the kernels of a path of
// the matrix products use. Every function repeats it on registers.

#include <cstdint>
#include <cstring>

#if defined(__linux__) && defined(__x86_64__) && (__GNUC__ >= 11 || __clang_major__ >= 12)

#include <immintrin.h>

namespace {

// Accumulators: more than the latency of an instruction times the instructions that begin in one cycle.
constexpr int SUMS = 12;

// Makes the value unknown to the compiler, so that it keeps the instructions.
template <typename V> void hide(V & x) { asm volatile("" : "+x"(x)); }

__attribute__((target("avx512f,avx512vnni"))) int64_t avx512_vnni(int64_t rounds) {
    __m512i sums[SUMS] = {}, a = _mm512_set1_epi8(1), b = a;
    for (int64_t i = 0; i < rounds; i++) {
        for (auto & sum : sums) {
            sum = _mm512_dpbusd_epi32(sum, a, b);
            asm volatile("" : "+v"(sum));
        }
    }
    return rounds * SUMS * 64;
}

__attribute__((target("avx2,avxvnni"))) int64_t avx_vnni(int64_t rounds) {
    __m256i sums[SUMS] = {}, a = _mm256_set1_epi8(1), b = a;
    for (int64_t i = 0; i < rounds; i++) {
        for (auto & sum : sums) {
            sum = _mm256_dpbusd_avx_epi32(sum, a, b);
            hide(sum);
        }
    }
    return rounds * SUMS * 32;
}

// Without VNNI three instructions add 32 products of bytes.
__attribute__((target("avx2"))) int64_t avx2(int64_t rounds) {
    __m256i sums[SUMS] = {}, a = _mm256_set1_epi8(1), b = a, ones = _mm256_set1_epi16(1);
    for (int64_t i = 0; i < rounds; i++) {
        for (auto & sum : sums) {
            hide(a);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
            hide(sum);
        }
    }
    return rounds * SUMS * 32;
}

// Four tiles of sums: 16 x 16 sums of 32 products each.
__attribute__((target("amx-tile,amx-bf16"))) int64_t amx_bf16(int64_t rounds) {
    struct alignas(64) {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t row_bytes[16] = { 64, 64, 64, 64, 64, 64, 64, 64 };
        uint8_t rows[16] = { 16, 16, 16, 16, 16, 16, 16, 16 };
    } shape;
    // Not _tile_loadconfig: GCC 12 declares too few bytes as its input.
    asm volatile("ldtilecfg %0" : : "m"(shape));
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_release();
    return rounds * 4 * 16 * 16 * 32;
}

}  // namespace

extern "C" {

// Executes `rounds` rounds of the instruction of the path `name`, which runs on this CPU (matmul/matmul.h). Returns the
// number of multiply-adds; 0 if the path has no entry here.
int64_t llama_ext_multiply_adds(const char * name, int64_t rounds) {
    const auto is = [=](const char * other) { return std::strcmp(name, other) == 0; };
    return is("amx-bf16")      ? amx_bf16(rounds)
           : is("avx512-vnni") ? avx512_vnni(rounds)
           : is("avx-vnni")    ? avx_vnni(rounds)
           : is("avx2")        ? avx2(rounds)
                               : 0;
}

}  // extern "C"

#else  // no measurement on this machine

extern "C" {

int64_t llama_ext_multiply_adds(const char *, int64_t) { return 0; }

}  // extern "C"

#endif

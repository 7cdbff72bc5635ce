// The AMX path with its tile instructions in plain C++, for tests on CPUs without AMX. Never used for a model.

#include "matmul.h"

#if defined(__AVX512F__) && defined(__AVX512BW__)

#include "format.h"
#include "isa_avx512.h"

#include <cstring>

namespace tulu {
namespace {

struct isa : avx512 {
    static constexpr bool SIGNED = false;
};

// The lower 16 bits of a float are cut off after rounding to nearest even.
inline isa::ints rounded_to_upper(isa::floats x) {
    const auto bits = (isa::ints) x;
    return bits + 0x7fff + ((bits >> 16) & 1);
}

inline isa::ints pack(isa::floats even, isa::floats odd) {
    return ((rounded_to_upper(even) >> 16) & 0xffff) | (rounded_to_upper(odd) & static_cast<int32_t>(0xffff0000));
}

// The registers of a thread: eight tiles of 16 rows with 64 bytes.
struct tile {
    char rows[16][64];
};
thread_local tile tiles[8];

void load_tile(int to, const void * from, size_t stride) {
    for (int r = 0; r < 16; r++) {
        std::memcpy(tiles[to].rows[r], static_cast<const char *>(from) + r * stride, 64);
    }
}

void store_tile(int from, void * to, size_t stride) {
    for (int r = 0; r < 16; r++) {
        std::memcpy(static_cast<char *>(to) + r * stride, tiles[from].rows[r], 64);
    }
}

float from_bf16(const char * at) {
    uint16_t half;
    std::memcpy(&half, at, sizeof half);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// TDPBF16PS of Intel's manual: sum[m][n] += a[m][2k] * b[k][2n] + a[m][2k + 1] * b[k][2n + 1].
void dot_tiles(int sum, int a, int b) {
    for (int m = 0; m < 16; m++) {
        for (int k = 0; k < 16; k++) {
            const float even = from_bf16(tiles[a].rows[m] + 4 * k), odd = from_bf16(tiles[a].rows[m] + 4 * k + 2);
            for (int n = 0; n < 16; n++) {
                float x;
                std::memcpy(&x, tiles[sum].rows[m] + 4 * n, sizeof x);
                x += even * from_bf16(tiles[b].rows[k] + 4 * n);
                x += odd * from_bf16(tiles[b].rows[k] + 4 * n + 2);
                std::memcpy(tiles[sum].rows[m] + 4 * n, &x, sizeof x);
            }
        }
    }
}

}  // namespace
}  // namespace tulu

#define _tile_zero(to) std::memset(&tiles[to], 0, sizeof tiles[to])
#define _tile_loadd(to, from, stride) load_tile(to, from, stride)
#define _tile_stored(from, to, stride) store_tile(from, to, stride)
#define _tile_dpbf16ps(sum, a, b) dot_tiles(sum, a, b)
#define _tile_storeconfig(to) std::memset(to, 0, 64)
#define _tile_loadconfig(from) static_cast<void>(from)
#define _tile_release() static_cast<void>(0)

#include "bf16_kernel.h"

namespace tulu {

static bool runs_here() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }

extern const path AMX_EMULATED;
const path AMX_EMULATED = { "amx-bf16-emulated", runs_here, supports, scratch_bytes, multiply };

}  // namespace tulu

#else  // the compiler does not support the instructions

namespace tulu {

extern const path AMX_EMULATED;
const path AMX_EMULATED = { "amx-bf16-emulated", [] { return false; }, nullptr, nullptr, nullptr };

}  // namespace tulu

#endif

// NEON with the dot product instructions of ARMv8.2 (most ARM CPUs since 2018, all of Apple's M series).

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

#include "isa_neon.h"

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace tulu {
namespace {

struct isa : neon {
    static constexpr bool SIGNED = true;
    using partial = ints;

    static constexpr int in_partial(int) { return 64; }

    static partial begin(ints sum) { return sum; }

    template <bool> static partial dot(partial sum, ints weights, int32_t four) {
        return (partial) vdotq_s32((int32x4_t) sum, (int8x16_t) weights, (int8x16_t) vdupq_n_s32(four));
    }

    static ints end(ints, partial sum) { return sum; }
};

}  // namespace
}  // namespace tulu

#include "byte_kernel.h"

namespace tulu {

static bool runs_here() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__APPLE__)
    return true;
#else
    return false;
#endif
}

extern const path NEON_DOTPROD;
const path NEON_DOTPROD = { "neon-dotprod", runs_here, supports, scratch_bytes, multiply };

}  // namespace tulu

#else  // the compiler does not support the instructions

#include "matmul.h"

namespace tulu {

extern const path NEON_DOTPROD;
const path NEON_DOTPROD = { "neon-dotprod", [] { return false; }, nullptr, nullptr, nullptr };

}  // namespace tulu

#endif

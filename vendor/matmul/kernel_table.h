// The functions of a path: finds the kernel of a type. `multiply_as` is in the kernel's file, included before.
#pragma once

namespace tulu {
namespace {

struct kernel {
    int type, weights;
    void (*multiply)(const product &, int, char *);
};

constexpr kernel KERNELS[] = {
    { GGML_TYPE_Q4_K, q4_K::WEIGHTS, multiply_as<q4_K> },       { GGML_TYPE_Q5_K, q5_K::WEIGHTS, multiply_as<q5_K> },
    { GGML_TYPE_Q6_K, q6_K::WEIGHTS, multiply_as<q6_K> },       { GGML_TYPE_Q8_0, q8_0::WEIGHTS, multiply_as<q8_0> },
    { GGML_TYPE_Q3_K, q3_K::WEIGHTS, multiply_as<q3_K> },       { GGML_TYPE_Q2_K, q2_K::WEIGHTS, multiply_as<q2_K> },
    { GGML_TYPE_Q4_0, q4_0::WEIGHTS, multiply_as<q4_0> },       { GGML_TYPE_Q4_1, q4_1::WEIGHTS, multiply_as<q4_1> },
    { GGML_TYPE_Q5_0, q5_0::WEIGHTS, multiply_as<q5_0> },       { GGML_TYPE_Q5_1, q5_1::WEIGHTS, multiply_as<q5_1> },
    { GGML_TYPE_IQ4_NL, iq4_nl::WEIGHTS, multiply_as<iq4_nl> }, { GGML_TYPE_IQ4_XS, iq4_xs::WEIGHTS, multiply_as<iq4_xs> },
};

const kernel * kernel_for(int type) {
    for (const kernel & one : KERNELS) {
        if (one.type == type) {
            return &one;
        }
    }
    return nullptr;
}

bool supports(int type, int64_t depth) {
    const kernel * one = kernel_for(type);
    return one && depth > 0 && depth % one->weights == 0;
}

void multiply(const product & what, int n_threads, char * memory) { kernel_for(what.type)->multiply(what, n_threads, memory); }

}  // namespace
}  // namespace tulu

// Attention for batches of many sequences on the CPU (attention.cpp). Uses plain pointers and strides, no ggml types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tulu {

// softmax(scale * q k^T + mask) v for every query head of every token. Strides are in bytes. Keys, values and the mask
// are half floats. `dim` is a multiple of 16, at most ATTENTION_DIM_MAX.
struct attention {
    int64_t dim, n_tokens, n_head, n_head_kv, n_kv;
    const char * q;  // f32: [n_head][n_tokens][dim]
    size_t q_token, q_head;
    const char * k;  // [n_head_kv][n_kv][dim]
    size_t k_cell, k_head;
    const char * v;
    size_t v_cell, v_head;
    const char * mask;  // [n_tokens][n_kv]: added to the scores; minus infinity hides a cell
    size_t mask_token;
    float scale;
    float * out;  // [n_tokens][n_head][dim]
    int n_threads;
};

constexpr int64_t ATTENTION_DIM_MAX = 256;

// Whether this build has OpenMP and the vector instructions that make the kernel faster than ggml's.
bool attention_is_built();

// Computes the attention. Throws when memory is exhausted.
void attend(const attention & op);

}  // namespace tulu

// Attention for batches of many sequences on the CPU (attention.cpp). Uses plain pointers and strides, no ggml types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tulu {

// Types of keys and values. q8_0: blocks of 32 values, a half float scale and 32 signed bytes.
enum class kv_type { f16, q8_0 };

// softmax(scale * q k^T + mask) v for every query head of every token. Strides are in bytes. `dim` is a multiple of 16,
// of 32 with q8_0, and at most ATTENTION_DIM_MAX.
struct attention {
    int64_t dim, n_tokens, n_head, n_head_kv, n_kv;
    const char * q;  // f32: [n_head][n_tokens][dim]
    size_t q_token, q_head;
    kv_type k_type, v_type;
    // Whether the keys are in the KV cache, where each layer has them at one address in all steps. If not (llama.cpp
    // converts an f32 cache in every step), the address does not identify the layer.
    bool k_is_cached;
    const char * k;  // [n_head_kv][n_kv][dim]
    size_t k_cell, k_head;
    const char * v;
    size_t v_cell, v_head;
    const char * mask;  // half floats: [n_tokens][n_kv], added to the scores; minus infinity hides a cell
    size_t mask_token;
    float scale;
    float * out;  // [n_tokens][n_head][dim]
    int n_threads;
};

constexpr int64_t ATTENTION_DIM_MAX = 256;

// Whether this build has OpenMP and the vector instructions that make the kernel faster than ggml's.
bool attention_is_built();

// Computes attention. Its memory grows on demand and is reused for the next call, and the lists of visible cells are
// reused for the other layers of a step.
class attention_kernel {
  public:
    attention_kernel();
    ~attention_kernel();

    // Throws when memory is exhausted.
    void compute(const attention & op);

  private:
    struct state;
    std::unique_ptr<state> own;
};

}  // namespace tulu

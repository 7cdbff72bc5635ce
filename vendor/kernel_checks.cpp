// Runs kernels on given numbers: for tests, benches, and the self-test of `doctor`.

#include "accel_device.h"
#include "copy_text.h"
#include "matmul/matmul.h"
#include "scratch.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
namespace tulu {
extern const path AMX_EMULATED, AVX_VNNI_EVEX;
}
static const tulu::path * const TEST_PATHS[] = { &tulu::AMX_EMULATED, &tulu::AVX_VNNI_EVEX, nullptr };
#else
static const tulu::path * const TEST_PATHS[] = { nullptr };
#endif

// Returns path number `i`: those of matmul.h, then those for tests only, then null.
static const tulu::path * path_for_test(int i) {
    int n = 0;
    while (tulu::path_number(n)) {
        n++;
    }
    const int of_tests = static_cast<int>(sizeof TEST_PATHS / sizeof *TEST_PATHS);
    return i < n ? tulu::path_number(i) : i - n < of_tests ? TEST_PATHS[i - n] : nullptr;
}

extern "C" {

// Returns the name of the path for a product; NULL if ggml computes it.
const char * llama_ext_path_for(int32_t type, int64_t n_per_row, int64_t n_cols) {
    const tulu::path * path = tulu::choose_path(type, n_per_row, n_cols);
    return path ? path->name : nullptr;
}

// Multiplies as llama_ext_matmul does (cpu_check.cpp), but with path number `number` of our kernels. Writes the path's
// name to `name`. Returns 0 = done, 1 = error, 2 = the path does not support the product, 3 = there is no such path,
// 4 = the path does not run on this CPU.
int32_t llama_ext_product(int32_t number, int32_t type, const void * weights, int64_t n_per_row, int64_t rows,
                          const float * columns, int64_t n_cols, int32_t n_threads, int32_t runs, float * out,
                          double * seconds, char * name, size_t name_size) {
    try {
        const tulu::path * path = path_for_test(number);
        if (!path) {
            return 3;
        }
        tulu::copy_text(name, name_size, path->name);
        if (!path->runs_here()) {
            return 4;
        }
        if (!path->supports(type, n_per_row)) {
            return 2;
        }
        tulu::product what = {};
        what.type          = type;
        what.n_rows        = rows;
        what.depth         = n_per_row;
        what.n_columns     = n_cols;
        what.weights       = static_cast<const char *>(weights);
        what.row_bytes     = ggml_row_size(static_cast<ggml_type>(type), n_per_row);
        what.columns       = reinterpret_cast<const char *>(columns);
        what.column_bytes  = n_per_row * sizeof(float);
        what.out           = reinterpret_cast<char *>(out);
        what.out_bytes     = rows * sizeof(float);
        tulu::scratch scratch;
        char * memory = scratch.take(path->scratch_bytes(what, n_threads));
        for (int32_t i = 0; i < runs; i++) {
            const int64_t start = ggml_time_us();
            path->multiply(what, n_threads, memory);
            const double took = 1e-6 * static_cast<double>(ggml_time_us() - start);
            *seconds          = i == 0 ? took : std::min(*seconds, took);
        }
        return 0;
    } catch (...) {
        return 1;
    }
}

// Computes attention with ggml's CPU kernel (`where` = 0), with ours (1), or on ggml's device number 0 and up (2 and up),
// `runs` times: q is [n_head][n_tokens][dim] in
// f32, k and v are [n_head_kv][n_kv][dim] of the given types, mask is [n_tokens][n_kv] in half floats, out is
// [n_tokens][n_head][dim]. With `earlier`, another mask, it computes two layers, once with `earlier` and then with
// `mask` in the same memory, as llama.cpp does in two steps; `out` is from the second layer.
// Returns 0 = done, 1 = error, 2 = the kernel does not support these inputs.
int32_t llama_ext_attention(int32_t where, int64_t dim, int64_t n_tokens, int64_t n_head, int64_t n_head_kv, int64_t n_kv,
                            int32_t k_type, int32_t v_type, const float * q, const void * k, const void * v,
                            const uint16_t * mask, const uint16_t * earlier, int32_t n_threads, int32_t runs,
                            float * out, double * seconds) {
    try {
        const ggml_init_params init = { 16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true };
        ggml_context_ptr ctx(ggml_init(init));
        const auto cache = [&](int32_t type) {
            return ggml_new_tensor_3d(ctx.get(), static_cast<ggml_type>(type), dim, n_kv, n_head_kv);
        };
        ggml_tensor * tq  = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, dim, n_tokens, n_head);
        ggml_tensor * tk  = cache(k_type);
        ggml_tensor * tv  = cache(v_type);
        ggml_tensor * tm  = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, n_kv, n_tokens);
        const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
        ggml_cgraph * graph = ggml_new_graph(ctx.get());
        if (earlier) {
            ggml_build_forward_expand(graph, ggml_flash_attn_ext(ctx.get(), tq, tv, tk, tm, scale, 0.0f, 0.0f));
        }
        ggml_tensor * to = ggml_flash_attn_ext(ctx.get(), tq, tk, tv, tm, scale, 0.0f, 0.0f);
        ggml_build_forward_expand(graph, to);
        const size_t number = where >= 2 ? static_cast<size_t>(where - 2) : 0;
        if (where >= 2 && number >= ggml_backend_dev_count()) {
            return 1;
        }
        ggml_backend_dev_t device = where >= 2   ? ggml_backend_dev_get(number)
                                    : where == 1 ? tulu::device()
                                                 : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        ggml_backend_ptr backend(device ? ggml_backend_dev_init(device, nullptr) : nullptr);
        ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors_from_buft(
            ctx.get(), where >= 2 ? ggml_backend_dev_buffer_type(device) : ggml_backend_cpu_buffer_type()));
        if (!backend || !buffer) {
            return 1;
        }
        if (!ggml_backend_dev_supports_op(device, to)) {
            return 2;
        }
        if (where == 1) {
            tulu::set_threads(backend.get(), n_threads);
        } else if (where == 0) {
            ggml_backend_cpu_set_n_threads(backend.get(), n_threads);
        }
        ggml_backend_tensor_set(tq, q, 0, ggml_nbytes(tq));
        ggml_backend_tensor_set(tk, k, 0, ggml_nbytes(tk));
        ggml_backend_tensor_set(tv, v, 0, ggml_nbytes(tv));
        if (earlier) {
            ggml_backend_tensor_set(tm, earlier, 0, ggml_nbytes(tm));
            ggml_backend_graph_compute(backend.get(), graph);
        }
        ggml_backend_tensor_set(tm, mask, 0, ggml_nbytes(tm));
        for (int32_t i = 0; i < runs; i++) {
            const int64_t start = ggml_time_us();
            if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
                return 1;
            }
            const double took = 1e-6 * static_cast<double>(ggml_time_us() - start);
            *seconds          = i == 0 ? took : std::min(*seconds, took);
        }
        ggml_backend_tensor_get(to, out, 0, ggml_nbytes(to));
        return 0;
    } catch (...) {
        return 1;
    }
}

}  // extern "C"

// The C++ side of llama-ext: the few things of llama.cpp that have no C binding. Each function catches every exception
// and answers with a status, because an exception that reaches Rust aborts the process. The Rust side checks what
// llama.cpp would assert on (an assertion aborts too) before it calls.

// The rules are private to llama-quant.cpp, so the file is compiled into this unit, its public functions under names of
// their own beside those of the library. (llama-ext.h exports llama_quant_compute_types, but that forgets whether there is
// an importance matrix, on which some types depend.)
#define llama_ftype_get_default_type            llama_ext_ftype_get_default_type
#define llama_model_quantize                    llama_ext_unused_quantize
#define llama_model_quantize_default_params     llama_ext_quantize_default_params
#define llama_quant_init                        llama_ext_unused_init
#define llama_quant_free                        llama_ext_unused_free
#define llama_quant_model_from_metadata         llama_ext_model_from_metadata
#define llama_quant_tensor_allows_quantization  llama_ext_unused_allows
#define llama_quant_compute_types               llama_ext_unused_compute
#include "llama-quant.cpp"

#include "device.h"
#include "matmul/matmul.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace {

void copy_message(char * out, size_t size, const char * text) {
    if (size > 0) {
        std::strncpy(out, text, size - 1);
        out[size - 1] = '\0';
    }
}

struct model_free {
    void operator()(llama_model * model) const { llama_model_free(model); }
};
}  // namespace

extern "C" {

// A tensor as the type rules see it: name, row length, rows (0 for a vector), type it has now.
struct llama_ext_tensor {
    const char * name;
    int64_t n_per_row;
    int64_t n_rows;
    int32_t type;
};

// What was asked for besides the mix: llama-quantize's --pure, --output-tensor-type, --token-embedding-type (-1 = not
// given) and --tensor-type (patterns ended by a NULL), and whether there is an importance matrix.
struct llama_ext_rules {
    int32_t ftype;
    int32_t pure;
    int32_t has_imatrix;
    int32_t output_type;
    int32_t token_embedding_type;
    const llama_model_tensor_override * overrides;
};

// Asks llama.cpp for the type of every tensor. 0 = done, 1 = `error` says why not. The steps are those of
// llama_model_quantize before it reads a weight.
int32_t llama_ext_tensor_types(const llama_quant_model_desc * desc, const llama_ext_rules * rules,
                               const llama_ext_tensor * tensors, size_t n_tensors, int32_t * types, char * error,
                               size_t error_size) {
    try {
        std::unique_ptr<llama_model, model_free> model(llama_quant_model_from_metadata(desc));
        llama_model_quantize_params params = llama_model_quantize_default_params();
        params.ftype = static_cast<llama_ftype>(rules->ftype);
        params.pure = rules->pure != 0;
        if (rules->output_type >= 0) {
            params.output_tensor_type = static_cast<ggml_type>(rules->output_type);
        }
        if (rules->token_embedding_type >= 0) {
            params.token_embedding_type = static_cast<ggml_type>(rules->token_embedding_type);
        }
        params.tt_overrides = rules->overrides;
        quantize_state_impl state(*model, &params);
        state.has_imatrix = rules->has_imatrix != 0;

        const ggml_init_params init = { n_tensors * ggml_tensor_overhead() + 1024, nullptr, /*no_alloc*/ true };
        ggml_context_ptr ctx(ggml_init(init));
        if (!ctx) {
            copy_message(error, error_size, "out of memory");
            return 1;
        }
        std::vector<ggml_tensor *> all(n_tensors);
        std::vector<tensor_metadata> metadata(n_tensors);
        for (size_t i = 0; i < n_tensors; i++) {
            const llama_ext_tensor & t = tensors[i];
            const auto type = static_cast<ggml_type>(t.type);
            all[i] = t.n_rows > 0 ? ggml_new_tensor_2d(ctx.get(), type, t.n_per_row, t.n_rows)
                                  : ggml_new_tensor_1d(ctx.get(), type, t.n_per_row);
            ggml_set_name(all[i], t.name);
            metadata[i].name = t.name;
        }
        init_quantize_state_counters(state, metadata);
        const ggml_type default_type = llama_ftype_get_default_type(params.ftype);
        for (size_t i = 0; i < n_tensors; i++) {
            types[i] = llama_tensor_get_type(state, &params, all[i], default_type, metadata[i]);
        }
        return 0;
    } catch (const std::exception & err) {
        copy_message(error, error_size, err.what());
    } catch (...) {
        copy_message(error, error_size, "unknown C++ exception");
    }
    return 1;
}

// The first instruction set that this was compiled for and that the CPU lacks; NULL when there is none. It uses none of
// them itself.
const char * llama_ext_cpu_lacks(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
#if defined(__AVX__)
    if (!__builtin_cpu_supports("avx")) return "avx";
#endif
#if defined(__AVX2__)
    if (!__builtin_cpu_supports("avx2")) return "avx2";
#endif
#if defined(__FMA__)
    if (!__builtin_cpu_supports("fma")) return "fma";
#endif
#if defined(__BMI2__)
    if (!__builtin_cpu_supports("bmi2")) return "bmi2";
#endif
#if defined(__AVX512F__)
    if (!__builtin_cpu_supports("avx512f")) return "avx512f";
#endif
#if defined(__AVX512BW__)
    if (!__builtin_cpu_supports("avx512bw")) return "avx512bw";
#endif
#if defined(__AVX512VBMI__)
    if (!__builtin_cpu_supports("avx512vbmi")) return "avx512vbmi";
#endif
#if defined(__AVX512VNNI__)
    if (!__builtin_cpu_supports("avx512vnni")) return "avx512vnni";
#endif
#endif
    return nullptr;
}

// How many of `names` the pattern finds, as llama_quant's overrides do; -1 when it is no regular expression.
int64_t llama_ext_pattern_finds(const char * pattern, const char * const * names, size_t n_names) {
    try {
        const std::regex compiled(pattern);
        return std::count_if(names, names + n_names, [&](const char * name) {
            return std::regex_search(std::string(name), compiled);
        });
    } catch (...) {
        return -1;
    }
}

// Multiplies a matrix of `rows` rows of `n_per_row` weights, stored as `type`, with `n_cols` f32 columns, on the CPU
// backend, with the weights in the buffer kind number `kind` (0 = plain memory, 1.. = the CPU's extra kinds such as AMX
// tiles and repacked blocks); -1 is our own device, in plain memory. `out` is n_cols x rows. The product is computed `runs` times; `seconds` is the fastest.
// 0 = done, 1 = error, 2 = this kind does not take this product, 3 = there are no more kinds.
int32_t llama_ext_matmul(int32_t kind, int32_t type, const void * weights, int64_t n_per_row, int64_t rows,
                         const float * columns, int64_t n_cols, int32_t n_threads, int32_t runs, float * out,
                         double * seconds, char * kind_name, size_t kind_name_size) {
    try {
        ggml_backend_dev_t device = kind < 0 ? tulu::device() : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        if (!device) {
            return 1;
        }
        ggml_backend_buffer_type_t place = ggml_backend_cpu_buffer_type();
        if (kind > 0) {
            using extra_fn  = ggml_backend_buffer_type_t * (*) (ggml_backend_dev_t);
            const auto reg  = ggml_backend_dev_backend_reg(device);
            const auto find = (extra_fn) ggml_backend_reg_get_proc_address(reg, "ggml_backend_dev_get_extra_bufts");
            ggml_backend_buffer_type_t * extra = find ? find(device) : nullptr;
            for (int32_t i = 1; extra && *extra && i < kind; i++) {
                extra++;
            }
            if (!extra || !*extra) {
                return 3;
            }
            place = *extra;
        }
        copy_message(kind_name, kind_name_size,
                     kind < 0 ? ggml_backend_dev_name(device) : ggml_backend_buft_name(place));

        ggml_backend_ptr backend(ggml_backend_dev_init(device, nullptr));
        if (!backend) {
            return 1;
        }
        kind < 0 ? tulu::set_threads(backend.get(), n_threads) : ggml_backend_cpu_set_n_threads(backend.get(), n_threads);

        const ggml_init_params init = { 8 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true };
        ggml_context_ptr held(ggml_init(init)), made(ggml_init(init));
        ggml_tensor * a = ggml_new_tensor_2d(held.get(), static_cast<ggml_type>(type), n_per_row, rows);
        ggml_backend_buffer_ptr a_buffer(ggml_backend_alloc_ctx_tensors_from_buft(held.get(), place));
        ggml_tensor * b = ggml_new_tensor_2d(made.get(), GGML_TYPE_F32, n_per_row, n_cols);
        ggml_tensor * product = ggml_mul_mat(made.get(), a, b);
        if (!a_buffer || !ggml_backend_dev_supports_op(device, product)) {
            return 2;
        }
        ggml_cgraph * graph = ggml_new_graph(made.get());
        ggml_build_forward_expand(graph, product);
        ggml_backend_buffer_ptr rest(
            ggml_backend_alloc_ctx_tensors_from_buft(made.get(), ggml_backend_cpu_buffer_type()));
        if (!rest) {
            return 1;
        }
        ggml_backend_tensor_set(a, weights, 0, ggml_nbytes(a));
        ggml_backend_tensor_set(b, columns, 0, ggml_nbytes(b));
        for (int32_t i = 0; i < runs; i++) {
            const int64_t began = ggml_time_us();
            if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
                return 1;
            }
            const double took = 1e-6 * static_cast<double>(ggml_time_us() - began);
            *seconds = i == 0 ? took : std::min(*seconds, took);
        }
        ggml_backend_tensor_get(product, out, 0, ggml_nbytes(product));
        return 0;
    } catch (...) {
        return 1;
    }
}

// The same product with our kernels of path number `number`, whatever ggml and the device would choose; the path's name goes
// to `name`. 0 = done, 1 = error, 2 = this path has no kernel for it, 3 = there are no more paths, 4 = it does not run on
// this CPU.
int32_t llama_ext_product(int32_t number, int32_t type, const void * weights, int64_t n_per_row, int64_t rows,
                          const float * columns, int64_t n_cols, int32_t n_threads, int32_t runs, float * out,
                          double * seconds, char * name, size_t name_size) {
    try {
        const tulu::path * path = tulu::path_number(number);
        if (!path) {
            return 3;
        }
        copy_message(name, name_size, path->name);
        if (!path->runs_here()) {
            return 4;
        }
        if (!path->takes(type, n_per_row)) {
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
            const int64_t began = ggml_time_us();
            path->multiply(what, n_threads, memory);
            const double took = 1e-6 * static_cast<double>(ggml_time_us() - began);
            *seconds          = i == 0 ? took : std::min(*seconds, took);
        }
        return 0;
    } catch (...) {
        return 1;
    }
}

}  // extern "C"

// The types of tensors under a quantization mix, computed by llama.cpp's own rules. Every function catches all
// exceptions and returns a status, because an exception that reaches Rust aborts the process. Before a call, the Rust
// side checks the conditions that llama.cpp asserts, because a failed assertion aborts too.
//
// The rules are private to llama-quant.cpp, so that file is compiled here, with its public functions renamed to avoid
// clashes with the library. (llama-ext.h exports llama_quant_compute_types, but that ignores whether there is an
// importance matrix, on which some types depend.)
#define llama_ftype_get_default_type            llama_ext_ftype_get_default_type
#define llama_model_quantize                    llama_ext_unused_quantize
#define llama_model_quantize_default_params     llama_ext_quantize_default_params
#define llama_quant_init                        llama_ext_unused_init
#define llama_quant_free                        llama_ext_unused_free
#define llama_quant_model_from_metadata         llama_ext_model_from_metadata
#define llama_quant_tensor_allows_quantization  llama_ext_unused_allows
#define llama_quant_compute_types               llama_ext_unused_compute
#include "llama-quant.cpp"

#include "copy_text.h"

#include "ggml-cpp.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace {

struct model_free {
    void operator()(llama_model * model) const { llama_model_free(model); }
};
}  // namespace

extern "C" {

// The properties of a tensor that the rules need: name, row length, rows (0 for a vector), current type.
struct llama_ext_tensor {
    const char * name;
    int64_t n_per_row;
    int64_t n_rows;
    int32_t type;
};

// The mix and the options of llama-quantize that change it: --pure, --output-tensor-type, --token-embedding-type
// (-1 = not given), --tensor-type (a list that ends with a NULL pattern), and whether there is an importance matrix.
struct llama_ext_rules {
    int32_t ftype;
    int32_t pure;
    int32_t has_imatrix;
    int32_t output_type;
    int32_t token_embedding_type;
    const llama_model_tensor_override * overrides;
};

// Computes the type of every tensor, in the steps of llama_model_quantize before it reads weights. Returns 0 = done,
// 1 = error with its text in `error`.
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
            tulu::copy_text(error, error_size, "out of memory");
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
        tulu::copy_text(error, error_size, err.what());
    } catch (...) {
        tulu::copy_text(error, error_size, "unknown C++ exception");
    }
    return 1;
}

// Returns how many of `names` the pattern matches, as the overrides of llama-quant do; -1 if it is not a regular
// expression.
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

}  // extern "C"

// A matrix product in each kind of weight buffer, for the self-test of `doctor` and to measure which kind is fastest.

#include "accel_device.h"
#include "copy_text.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <algorithm>

extern "C" {

// Multiplies a matrix of `rows` rows of `n_per_row` weights, stored as `type`, with `n_cols` f32 columns, `runs` times.
// `kind` is the kind of weight buffer: 0 = plain memory, 1 and up = the extra kinds of the CPU backend (AMX tiles,
// repacked blocks), -1 = plain memory with our device, -2 and down = the memory of ggml's device number 0 and up. `out` is n_cols x rows; `seconds` is the time of the fastest
// run. Returns 0 = done, 1 = error, 2 = this kind does not support the product, 3 = there is no such kind.
int32_t llama_ext_matmul(int32_t kind, int32_t type, const void * weights, int64_t n_per_row, int64_t rows,
                         const float * columns, int64_t n_cols, int32_t n_threads, int32_t runs, float * out,
                         double * seconds, char * kind_name, size_t kind_name_size) {
    try {
        const size_t number = kind <= -2 ? static_cast<size_t>(-2 - kind) : 0;
        if (kind <= -2 && number >= ggml_backend_dev_count()) {
            return 3;
        }
        ggml_backend_dev_t device = kind <= -2 ? ggml_backend_dev_get(number)
                                    : kind < 0 ? tulu::device()
                                               : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        if (!device) {
            return 1;
        }
        ggml_backend_buffer_type_t buffer_type =
            kind <= -2 ? ggml_backend_dev_buffer_type(device) : ggml_backend_cpu_buffer_type();
        const ggml_backend_buffer_type_t columns_type = buffer_type;
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
            buffer_type = *extra;
        }
        tulu::copy_text(kind_name, kind_name_size,
                     kind < 0 ? ggml_backend_dev_name(device) : ggml_backend_buft_name(buffer_type));

        ggml_backend_ptr backend(ggml_backend_dev_init(device, nullptr));
        if (!backend) {
            return 1;
        }
        if (kind == -1) {
            tulu::set_threads(backend.get(), n_threads);
        } else if (kind >= 0) {
            ggml_backend_cpu_set_n_threads(backend.get(), n_threads);
        }

        const ggml_init_params init = { 8 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true };
        ggml_context_ptr weights_ctx(ggml_init(init)), graph_ctx(ggml_init(init));
        ggml_tensor * a = ggml_new_tensor_2d(weights_ctx.get(), static_cast<ggml_type>(type), n_per_row, rows);
        ggml_backend_buffer_ptr a_buffer(ggml_backend_alloc_ctx_tensors_from_buft(weights_ctx.get(), buffer_type));
        ggml_tensor * b = ggml_new_tensor_2d(graph_ctx.get(), GGML_TYPE_F32, n_per_row, n_cols);
        ggml_tensor * product = ggml_mul_mat(graph_ctx.get(), a, b);
        if (!a_buffer || !ggml_backend_dev_supports_op(device, product)) {
            return 2;
        }
        ggml_cgraph * graph = ggml_new_graph(graph_ctx.get());
        ggml_build_forward_expand(graph, product);
        ggml_backend_buffer_ptr rest(
            ggml_backend_alloc_ctx_tensors_from_buft(graph_ctx.get(), columns_type));
        if (!rest) {
            return 1;
        }
        ggml_backend_tensor_set(a, weights, 0, ggml_nbytes(a));
        ggml_backend_tensor_set(b, columns, 0, ggml_nbytes(b));
        for (int32_t i = 0; i < runs; i++) {
            const int64_t start = ggml_time_us();
            if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
                return 1;
            }
            const double took = 1e-6 * static_cast<double>(ggml_time_us() - start);
            *seconds = i == 0 ? took : std::min(*seconds, took);
        }
        ggml_backend_tensor_get(product, out, 0, ggml_nbytes(product));
        return 0;
    } catch (...) {
        return 1;
    }
}

}  // extern "C"

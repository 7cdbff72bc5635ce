// Our kernels as a device of ggml's, so that llama.cpp's scheduler gives it the attention of large batches and the products
// of quantized weights, as it gives BLAS its products. It has no memory of its own: everything is in the CPU's. What it does
// not take, the CPU computes.

#include "device.h"

#include "attention.h"
#include "matmul/matmul.h"

#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

// ggml's kernels are as good for fewer tokens, and share one token's cells among the threads.
constexpr int64_t TOKENS_MIN = 4;

struct context {
    int n_threads = 1;
    tulu::scratch scratch;
};

context & of(ggml_backend_t backend) { return *static_cast<context *>(backend->context); }

// The kernels for products; null where there are none.
const tulu::path * kernels() {
#ifdef _OPENMP
    static const tulu::path * const chosen = tulu::choose_path(nullptr);
#else
    static const tulu::path * const chosen = nullptr;  // one thread would be slower than ggml's
#endif
    return chosen;
}

ggml_guid_t guid() {
    static ggml_guid id = { 0x74, 0x75, 0x6c, 0x75, 0x2d, 0x61, 0x74, 0x74, 0x65, 0x6e, 0x74, 0x69, 0x6f, 0x6e, 0x00, 0x01 };
    return &id;
}

float parameter(const ggml_tensor * op, int i) {
    float value;
    std::memcpy(&value, reinterpret_cast<const char *>(op->op_params) + i * sizeof(float), sizeof value);
    return value;
}

bool takes_attention(const ggml_tensor * op) {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3], *sinks = op->src[4];
    return tulu::attention_is_built() && q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 &&
           v->type == GGML_TYPE_F16 && mask && mask->type == GGML_TYPE_F16 && !sinks && q->ne[1] >= TOKENS_MIN &&
           q->ne[0] == v->ne[0] && q->ne[0] % 16 == 0 && q->ne[0] <= tulu::ATTENTION_DIM_MAX && q->ne[3] == 1 &&
           k->ne[3] == 1 && mask->ne[2] == 1 && mask->ne[3] == 1 && q->nb[0] == sizeof(float) &&
           k->nb[0] == sizeof(ggml_fp16_t) && v->nb[0] == sizeof(ggml_fp16_t) && ggml_is_contiguous(op) &&
           parameter(op, 1) == 0.0f && parameter(op, 2) == 0.0f;  // no ALiBi, no soft cap
}

void attend(const ggml_tensor * op, context & with) {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3];
    const auto bytes = [](const ggml_tensor * t) { return static_cast<const char *>(t->data); };
    tulu::attention what = {};
    what.dim             = q->ne[0];
    what.n_tokens        = q->ne[1];
    what.n_head          = q->ne[2];
    what.n_head_kv       = k->ne[2];
    what.n_kv            = k->ne[1];
    what.q               = bytes(q);
    what.q_token         = q->nb[1];
    what.q_head          = q->nb[2];
    what.k               = bytes(k);
    what.k_cell          = k->nb[1];
    what.k_head          = k->nb[2];
    what.v               = bytes(v);
    what.v_cell          = v->nb[1];
    what.v_head          = v->nb[2];
    what.mask            = bytes(mask);
    what.mask_token      = mask->nb[1];
    what.scale           = parameter(op, 0);
    what.out             = static_cast<float *>(op->data);
    what.n_threads       = with.n_threads;
    tulu::attend(what);
}

bool takes_product(const ggml_tensor * op) {
    const ggml_tensor *weights = op->src[0], *columns = op->src[1];
    return kernels() && columns->type == GGML_TYPE_F32 && op->type == GGML_TYPE_F32 && weights->ne[2] == 1 &&
           weights->ne[3] == 1 && columns->ne[2] == 1 && columns->ne[3] == 1 && columns->nb[0] == sizeof(float) &&
           op->nb[0] == sizeof(float) && weights->nb[1] == ggml_row_size(weights->type, weights->ne[0]) &&
           kernels()->takes(weights->type, weights->ne[0]) && columns->ne[1] >= tulu::columns_min(*kernels(), weights->type);
}

void multiply(const ggml_tensor * op, context & with) {
    const ggml_tensor *weights = op->src[0], *columns = op->src[1];
    tulu::product what = {};
    what.type          = weights->type;
    what.n_rows        = weights->ne[1];
    what.depth         = weights->ne[0];
    what.n_columns     = columns->ne[1];
    what.weights       = static_cast<const char *>(weights->data);
    what.row_bytes     = weights->nb[1];
    what.columns       = static_cast<const char *>(columns->data);
    what.column_bytes  = columns->nb[1];
    what.out           = static_cast<char *>(op->data);
    what.out_bytes     = op->nb[1];
    kernels()->multiply(what, with.n_threads, with.scratch.take(kernels()->scratch_bytes(what, with.n_threads)));
}

const char * name(ggml_backend_t) { return "TULU"; }

void free_backend(ggml_backend_t backend) {
    delete &of(backend);
    delete backend;
}

ggml_status graph_compute(ggml_backend_t backend, ggml_cgraph * graph) {
    try {
        for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
            const ggml_tensor * node = ggml_graph_node(graph, i);
            if (node->op == GGML_OP_FLASH_ATTN_EXT) {
                attend(node, of(backend));
            } else if (node->op == GGML_OP_MUL_MAT) {
                multiply(node, of(backend));
            }
        }
        return GGML_STATUS_SUCCESS;
    } catch (...) {
        return GGML_STATUS_ALLOC_FAILED;
    }
}

void set_n_threads(ggml_backend_t backend, int n) { of(backend).n_threads = n; }

ggml_backend_reg_t registry();

const char * device_name(ggml_backend_dev_t) { return "TULU"; }
const char * device_description(ggml_backend_dev_t) { return "kernels of tulu-quant"; }

void device_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = 0; }

enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; }

void device_props(ggml_backend_dev_t device, ggml_backend_dev_props * props) {
    *props             = {};
    props->name        = device_name(device);
    props->description = device_description(device);
    props->type        = device_type(device);
    props->caps        = {};
}

ggml_backend_t device_init(ggml_backend_dev_t device, const char *) {
    ggml_backend_i calls = {};
    calls.get_name       = name;
    calls.free           = free_backend;
    calls.graph_compute  = graph_compute;
    try {
        return new ggml_backend{ guid(), calls, device, new context };
    } catch (...) {
        return nullptr;
    }
}

ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t) { return ggml_backend_cpu_buffer_type(); }

bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
            return true;
        case GGML_OP_FLASH_ATTN_EXT:
            return takes_attention(op);
        case GGML_OP_MUL_MAT:
            return takes_product(op);
        default:
            return false;
    }
}

bool supports_buffers(ggml_backend_dev_t, ggml_backend_buffer_type_t type) { return ggml_backend_buft_is_host(type); }

ggml_backend_dev_t device(ggml_backend_reg_t, size_t) {
    static ggml_backend_device only = [] {
        ggml_backend_device_i calls = {};
        calls.get_name              = device_name;
        calls.get_description       = device_description;
        calls.get_memory            = device_memory;
        calls.get_type              = device_type;
        calls.get_props             = device_props;
        calls.init_backend          = device_init;
        calls.get_buffer_type       = device_buffer_type;
        calls.supports_op           = supports_op;
        calls.supports_buft         = supports_buffers;
        return ggml_backend_device{ calls, registry(), nullptr };
    }();
    return &only;
}

void * address(ggml_backend_reg_t, const char * wanted) {
    return std::strcmp(wanted, "ggml_backend_set_n_threads") == 0 ? reinterpret_cast<void *>(set_n_threads) : nullptr;
}

ggml_backend_reg_t registry() {
    static ggml_backend_reg only = [] {
        ggml_backend_reg_i calls = {};
        calls.get_name           = [](ggml_backend_reg_t) { return "TULU"; };
        calls.get_device_count   = [](ggml_backend_reg_t) -> size_t { return 1; };
        calls.get_device         = device;
        calls.get_proc_address   = address;
        return ggml_backend_reg{ GGML_BACKEND_API_VERSION, calls, nullptr };
    }();
    return &only;
}

}  // namespace

namespace tulu {

ggml_backend_dev_t device() { return ::device(nullptr, 0); }

void set_threads(ggml_backend_t backend, int n_threads) { set_n_threads(backend, n_threads); }

}  // namespace tulu

extern "C" {

// The name of the kernels for products that this CPU gets; null where there are none.
const char * llama_ext_kernels(void) { return kernels() ? kernels()->name : nullptr; }

// Makes the device known to ggml. Contexts that are made from now on use it. 1: this build has nothing for this CPU.
int32_t llama_ext_register_device(void) {
    if (!tulu::attention_is_built() && !kernels()) {
        return 1;
    }
    ggml_backend_register(registry());
    return 0;
}

// Attention over made-up sequences, computed by ggml's CPU kernel (`ours` = 0) or by this one: q is [n_head][n_tokens][dim]
// f32, k and v are [n_head_kv][n_kv][dim] and mask is [n_tokens][n_kv] in half floats, out is [n_tokens][n_head][dim].
// 0 = done, 1 = error, 2 = this kernel does not take it.
int32_t llama_ext_attention(int32_t ours, int64_t dim, int64_t n_tokens, int64_t n_head, int64_t n_head_kv, int64_t n_kv,
                            const float * q, const uint16_t * k, const uint16_t * v, const uint16_t * mask,
                            int32_t n_threads, int32_t runs, float * out, double * seconds) {
    try {
        const ggml_init_params init = { 16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true };
        ggml_context_ptr ctx(ggml_init(init));
        ggml_tensor * tq  = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, dim, n_tokens, n_head);
        ggml_tensor * tk  = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F16, dim, n_kv, n_head_kv);
        ggml_tensor * tv  = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F16, dim, n_kv, n_head_kv);
        ggml_tensor * tm  = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, n_kv, n_tokens);
        const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
        ggml_tensor * to  = ggml_flash_attn_ext(ctx.get(), tq, tk, tv, tm, scale, 0.0f, 0.0f);
        ggml_cgraph * graph = ggml_new_graph(ctx.get());
        ggml_build_forward_expand(graph, to);
        ggml_backend_dev_t where = ours ? device(nullptr, 0) : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        ggml_backend_ptr backend(where ? ggml_backend_dev_init(where, nullptr) : nullptr);
        ggml_backend_buffer_ptr buffer(
            ggml_backend_alloc_ctx_tensors_from_buft(ctx.get(), ggml_backend_cpu_buffer_type()));
        if (!backend || !buffer) {
            return 1;
        }
        if (!ggml_backend_dev_supports_op(where, to)) {
            return 2;
        }
        ours ? set_n_threads(backend.get(), n_threads) : ggml_backend_cpu_set_n_threads(backend.get(), n_threads);
        ggml_backend_tensor_set(tq, q, 0, ggml_nbytes(tq));
        ggml_backend_tensor_set(tk, k, 0, ggml_nbytes(tk));
        ggml_backend_tensor_set(tv, v, 0, ggml_nbytes(tv));
        ggml_backend_tensor_set(tm, mask, 0, ggml_nbytes(tm));
        for (int32_t i = 0; i < runs; i++) {
            const int64_t began = ggml_time_us();
            if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
                return 1;
            }
            const double took = 1e-6 * static_cast<double>(ggml_time_us() - began);
            *seconds          = i == 0 ? took : std::min(*seconds, took);
        }
        ggml_backend_tensor_get(to, out, 0, ggml_nbytes(to));
        return 0;
    } catch (...) {
        return 1;
    }
}

}  // extern "C"

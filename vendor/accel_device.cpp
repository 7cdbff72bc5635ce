// Our kernels as a ggml accelerator device (ACCEL): llama.cpp's scheduler assigns operations to it as to BLAS. The
// device computes attention and products of quantized weights. Unsupported operations fall back to the CPU backend. The device has no memory of its own: all tensors are in CPU buffers.

#include "accel_device.h"

#include "attention/attention.h"
#include "matmul/matmul.h"
#include "scratch.h"

#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <atomic>
#include <cstring>

namespace {

// Products with at least this many columns are left to a GPU, if llama_ext_leave_large_products says so: llama.cpp copies
// weights in main memory to a GPU for so many columns (GGML_OP_OFFLOAD_MIN_BATCH), unless our device takes them.
constexpr int64_t LARGE = 32;
std::atomic<bool> leaves_large_products = false;

struct context {
    int n_threads = 1;
    tulu::scratch scratch;
    tulu::attention_kernel attention;
};

context & of(ggml_backend_t backend) { return *static_cast<context *>(backend->context); }

// The path for the matrix product `op`; null if ggml computes it.
const tulu::path * path_for(const ggml_tensor * op) {
#ifdef _OPENMP
    return tulu::choose_path(op->src[0]->type, op->src[0]->ne[0], op->src[1]->ne[1]);
#else
    return nullptr;  // without OpenMP there is one thread: slower than ggml
#endif
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

// Whether the kernel reads rows of keys or values as `cache` has them.
bool supports_rows(const ggml_tensor * cache) {
    return (cache->type == GGML_TYPE_F16 || cache->type == GGML_TYPE_Q8_0) &&
           cache->ne[0] % ggml_blck_size(cache->type) == 0 && cache->nb[0] == ggml_type_size(cache->type);
}

tulu::kv_type kv_type_of(const ggml_tensor * cache) {
    return cache->type == GGML_TYPE_Q8_0 ? tulu::kv_type::q8_0 : tulu::kv_type::f16;
}

bool supports_attention(const ggml_tensor * op) {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3], *sinks = op->src[4];
    return tulu::attention_is_built() && q->type == GGML_TYPE_F32 && supports_rows(k) && supports_rows(v) && mask &&
           mask->type == GGML_TYPE_F16 && !sinks && q->ne[0] == v->ne[0] &&
           q->ne[0] % 16 == 0 && q->ne[0] <= tulu::ATTENTION_DIM_MAX && q->ne[3] == 1 && k->ne[3] == 1 &&
           k->ne[2] == v->ne[2] && mask->ne[2] == 1 && mask->ne[3] == 1 && q->nb[0] == sizeof(float) &&
           ggml_is_contiguous(op) && parameter(op, 1) == 0.0f && parameter(op, 2) == 0.0f;  // no ALiBi, no soft cap
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
    what.k_type          = kv_type_of(k);
    what.v_type          = kv_type_of(v);
    what.k_is_cached     = k->view_src && k->view_src->op == GGML_OP_NONE;
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
    with.attention.compute(what);
}

bool supports_product(const ggml_tensor * op) {
    const ggml_tensor *weights = op->src[0], *columns = op->src[1];
    if (leaves_large_products && columns->ne[1] >= LARGE) {
        return false;
    }
    return columns->type == GGML_TYPE_F32 && op->type == GGML_TYPE_F32 && weights->ne[2] == 1 && weights->ne[3] == 1 &&
           columns->ne[2] == 1 && columns->ne[3] == 1 && columns->nb[0] == sizeof(float) && op->nb[0] == sizeof(float) &&
           weights->nb[1] == ggml_row_size(weights->type, weights->ne[0]) && path_for(op);
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
    const tulu::path & path = *path_for(op);
    path.multiply(what, with.n_threads, with.scratch.take(path.scratch_bytes(what, with.n_threads)));
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
            return supports_attention(op);
        case GGML_OP_MUL_MAT:
            return supports_product(op);
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

// Whether this build has the attention kernel.
bool llama_ext_has_attention(void) { return tulu::attention_is_built(); }

// The names of the matrix product paths that this CPU uses; NULL if there is none.
const char * llama_ext_matmul_path(void) {
#ifdef _OPENMP
    return *tulu::names_of_paths() ? tulu::names_of_paths() : nullptr;
#else
    return nullptr;
#endif
}

// Registers the device with ggml. Contexts that are created after this call use it.
void llama_ext_register_device(void) { ggml_backend_register(registry()); }

// Sets whether the device leaves large products to a GPU.
void llama_ext_leave_large_products(bool leave) { leaves_large_products = leave; }

}  // extern "C"

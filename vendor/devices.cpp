// The devices that ggml has, what they support, and a trial of a model on them. No exception leaves this file: backends
// such as Vulkan throw when a device has no memory left.

#include "accel_device.h"
#include "copy_text.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "llama-cpp.h"
#include "llama-ext.h"

#include <cstdlib>
#include <cstring>
#include <exception>

// The software device of Mesa (lavapipe), as of Mesa 22.3 with LLVM 15, crashes in shaders that ggml fuses from several
// operations. ggml reads the variable when it first uses a Vulkan device, which is after the devices were listed.
static void protect_from_software_device(const char * description) {
#if !defined(_WIN32)
    if (std::strstr(description, "llvmpipe")) {
        setenv("GGML_VK_DISABLE_FUSION", "1", 0);
    }
#endif
}

extern "C" {

struct llama_ext_device_info {
    int32_t  kind;  // enum ggml_backend_dev_type
    bool     splits_rows;
    uint64_t total, free;  // bytes; both 0 if the device does not report them
    char     name[64], description[128], backend[64], id[64];
};

// Describes the device number `index`. Returns 0 = done, 1 = error, 3 = there is no such device.
int32_t llama_ext_device(size_t index, llama_ext_device_info * to) {
    try {
        if (index >= ggml_backend_dev_count()) {
            return 3;
        }
        ggml_backend_dev_t device = ggml_backend_dev_get(index);
        ggml_backend_dev_props props = {};
        ggml_backend_dev_get_props(device, &props);
        ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
        *to                    = {};
        to->kind               = ggml_backend_dev_type(device);
        to->total              = props.memory_total;
        to->free               = props.memory_free;
        to->splits_rows        = reg && ggml_backend_reg_get_proc_address(reg, "ggml_backend_split_buffer_type");
        tulu::copy_text(to->name, sizeof to->name, ggml_backend_dev_name(device));
        tulu::copy_text(to->description, sizeof to->description, ggml_backend_dev_description(device));
        protect_from_software_device(to->description);
        tulu::copy_text(to->backend, sizeof to->backend, reg ? ggml_backend_reg_name(reg) : "");
        tulu::copy_text(to->id, sizeof to->id, props.device_id ? props.device_id : "");
        return 0;
    } catch (...) {
        return 1;
    }
}

// Whether the device has a kernel for flash attention with heads of `dim` values and a cache of these types.
bool llama_ext_device_attends(size_t index, int64_t dim, int64_t n_head, int64_t n_head_kv, int32_t k_type, int32_t v_type) {
    try {
        if (index >= ggml_backend_dev_count()) {
            return false;
        }
        const ggml_init_params init = { 8 * ggml_tensor_overhead(), nullptr, true };
        ggml_context_ptr ctx(ggml_init(init));
        const auto tensor = [&](int32_t type, int64_t rows, int64_t heads) {
            return ggml_new_tensor_3d(ctx.get(), static_cast<ggml_type>(type), dim, rows, heads);
        };
        ggml_tensor * mask = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F16, 256, 512);
        ggml_tensor * op   = ggml_flash_attn_ext(ctx.get(), tensor(GGML_TYPE_F32, 512, n_head), tensor(k_type, 256, n_head_kv),
                                                 tensor(v_type, 256, n_head_kv), mask, 1.0f, 0.0f, 0.0f);
        return ggml_backend_dev_supports_op(ggml_backend_dev_get(index), op);
    } catch (...) {
        return false;
    }
}

// Creates a context, computes `n_tokens` tokens with it, and frees it. `used` receives the bytes that the model and the
// context take on each device: three numbers (weights, KV cache, compute buffers) for each of `n_devices`, then for main
// memory. Returns 0 = done, 1 = no context, 2 = not computed.
int32_t llama_ext_try_context(llama_model * model, const llama_context_params * params, int32_t n_tokens,
                              const size_t * devices, size_t n_devices, uint64_t * used, char * message,
                              size_t message_size) {
    try {
        llama_context_ptr context(llama_init_from_model(model, *params));
        if (!context) {
            return 1;
        }
        struct batch_owner {
            llama_batch batch;
            ~batch_owner() { llama_batch_free(batch); }
        } owner = { llama_batch_init(n_tokens, 0, 1) };
        llama_batch & batch = owner.batch;
        for (int32_t i = 0; i < n_tokens; i++) {
            batch.token[i]     = 0;
            batch.pos[i]       = i;
            batch.n_seq_id[i]  = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i]    = i + 1 == n_tokens;
        }
        batch.n_tokens = n_tokens;
        if (llama_decode(context.get(), batch) != 0) {
            return 2;
        }
        llama_synchronize(context.get());
        for (const auto & [type, memory] : llama_get_memory_breakdown(context.get())) {
            ggml_backend_dev_t device = ggml_backend_buft_is_host(type) ? nullptr : ggml_backend_buft_get_device(type);
            size_t at                 = n_devices;
            for (size_t i = 0; device && i < n_devices; i++) {
                at = ggml_backend_dev_get(devices[i]) == device ? i : at;
            }
            used[3 * at] += memory.model;
            used[3 * at + 1] += memory.context;
            used[3 * at + 2] += memory.compute;
        }
        return 0;
    } catch (const std::exception & error) {
        tulu::copy_text(message, message_size, error.what());
        return 2;
    } catch (...) {
        return 2;
    }
}

}  // extern "C"

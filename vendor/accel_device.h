// Our kernels as a ggml accelerator device (accel_device.cpp).
#pragma once

#include "ggml-backend.h"

namespace tulu {

// The device. llama.cpp uses it after llama_ext_register_device was called.
ggml_backend_dev_t device();

// Sets the number of threads of a backend of the device.
void set_threads(ggml_backend_t backend, int n_threads);

}  // namespace tulu

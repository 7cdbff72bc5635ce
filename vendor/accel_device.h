// Our kernels as a device of ggml's: see device.cpp.
#pragma once

#include "ggml-backend.h"

namespace tulu {

// The device; ggml knows of it once llama_ext_register_device was called.
ggml_backend_dev_t device();

// Threads that a backend of the device computes with.
void set_threads(ggml_backend_t backend, int n_threads);

}  // namespace tulu

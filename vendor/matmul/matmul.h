// Products of quantized weights with f32 columns on the CPU. Plain pointers and strides; of ggml there are only the type
// numbers. Nothing here knows of graphs or backends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tulu {

// out[column][row] = sum over k of weights[row][k] * columns[column][k].
struct product {
    int type;  // ggml_type of the weights
    int64_t n_rows, depth, n_columns;
    const char * weights;  // [n_rows][depth], blocks of `type`
    size_t row_bytes;  // from one row to the next
    const char * columns;  // f32: [n_columns][depth]
    size_t column_bytes;  // from one column to the next
    char * out;  // f32: [n_columns][n_rows]
    size_t out_bytes;  // from one column of the result to the next
};

// Memory that a product needs while it is computed. It grows on demand and is kept from one product to the next.
class scratch {
  public:
    // At least `bytes` bytes, aligned to 64; what was there is lost.
    char * take(size_t bytes);

  private:
    std::unique_ptr<char[]> held;
    size_t size = 0;
};

// An instruction set that the kernels are compiled for.
struct path {
    const char * name;
    bool (*runs_here)();
    // Whether there is a kernel for weights of `type`, in rows of `depth`.
    bool (*takes)(int type, int64_t depth);
    // Bytes of scratch memory that `multiply` needs.
    size_t (*scratch_bytes)(const product & what, int n_threads);
    void (*multiply)(const product & what, int n_threads, char * memory);
};

// Path number `i` of this build, the most capable first; null after the last.
const path * path_number(int i);

// The most capable path that runs on this CPU, or the one called `name` if it runs here; null when there is none.
const path * choose_path(const char * name);

// With fewer columns than this, ggml's own product of weights of `type` is as good.
int64_t columns_min(const path & kernels, int type);

}  // namespace tulu

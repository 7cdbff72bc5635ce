// Products of quantized weights with f32 columns on the CPU. Uses plain pointers and strides; of ggml only the type
// numbers. Graphs and backends are in accel_device.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tulu {

// out[column][row] = sum over k of weights[row][k] * columns[column][k].
struct product {
    int type;  // ggml_type of the weights
    int64_t n_rows, depth, n_columns;
    const char * weights;  // [n_rows][depth], blocks of `type`
    size_t row_bytes;  // stride of rows
    const char * columns;  // f32: [n_columns][depth]
    size_t column_bytes;  // stride of columns
    char * out;  // f32: [n_columns][n_rows]
    size_t out_bytes;  // stride of the columns of the result
};

// The kernels compiled for one instruction set.
struct path {
    const char * name;
    bool (*runs_here)();
    // Returns whether there is a kernel for weights of `type` in rows of `depth` weights.
    bool (*supports)(int type, int64_t depth);
    // Returns the bytes of scratch memory that `multiply` needs.
    size_t (*scratch_bytes)(const product & what, int n_threads);
    void (*multiply)(const product & what, int n_threads, char * memory);
};

// Returns path number `i` of this build, starting with the most capable; null after the last.
const path * path_number(int i);

// Returns the minimum number of columns at which `kernels` are faster than ggml for weights of `type`; INT64_MAX if they
// are never faster, or were not measured.
int64_t columns_min(const path & kernels, int type);

// Returns the most capable path of this CPU for a product with `n_columns` columns. Null if ggml is faster or there is
// none.
const path * choose_path(int type, int64_t depth, int64_t n_columns);

// The names of the paths that this CPU uses, separated by ", ". Empty if there is none.
const char * names_of_paths();

}  // namespace tulu

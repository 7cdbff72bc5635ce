// Checks the kernels on ARM: products of every type, and attention, against the definition in f64. A program of its
// own, so that it can be cross-compiled and run under qemu without the rest of the workspace
// (scripts/test-aarch64.sh). Prints its seed; the argument replaces it.

#include "attention/attention.h"
#include "matmul/matmul.h"
#include "scratch.h"

#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace tulu {
extern const path NEON_DOTPROD;
}

// The kernels use one function of ggml's CPU backend, which is not linked here.
extern "C" void ggml_cpu_fp16_to_fp32(const ggml_fp16_t * from, float * to, int64_t n) { ggml_fp16_to_fp32_row(from, to, n); }

namespace {

std::mt19937 numbers;

float bell() { return std::normal_distribution<float>()(numbers); }
int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(numbers); }

int failures = 0;

void check(bool good, const char * what, int type, int64_t a, int64_t b, int64_t c, double error) {
    if (!good) {
        std::printf("FAILED: %s, %s, %lld x %lld x %lld: error %g\n", what, ggml_type_name(static_cast<ggml_type>(type)),
                    static_cast<long long>(a), static_cast<long long>(b), static_cast<long long>(c), error);
        failures++;
    }
}

std::vector<char> stored(ggml_type type, const std::vector<float> & values, int64_t row) {
    std::vector<char> bytes(values.size() / row * ggml_row_size(type, row));
    ggml_quantize_chunk(type, values.data(), bytes.data(), 0, values.size() / row, row, nullptr);
    return bytes;
}

std::vector<float> floats_of(ggml_type type, const std::vector<char> & bytes, int64_t n) {
    std::vector<float> values(n);
    ggml_get_type_traits(type)->to_float(bytes.data(), values.data(), n);
    return values;
}

// The squared error of the product, relative to the squares of the result.
void product(ggml_type type) {
    const int64_t rows = 1 + below(40), columns = 1 + below(30), depth = ggml_blck_size(type) * (1 + below(6));
    std::vector<float> weights(rows * depth), x(columns * depth), out(rows * columns);
    std::generate(weights.begin(), weights.end(), [] { return 0.02f * bell(); });
    std::generate(x.begin(), x.end(), bell);
    const std::vector<char> bytes = stored(type, weights, depth);
    weights = floats_of(type, bytes, weights.size());
    tulu::product what = {};
    what.type          = type;
    what.n_rows        = rows;
    what.depth         = depth;
    what.n_columns     = columns;
    what.weights       = bytes.data();
    what.row_bytes     = ggml_row_size(type, depth);
    what.columns       = reinterpret_cast<const char *>(x.data());
    what.column_bytes  = depth * sizeof(float);
    what.out           = reinterpret_cast<char *>(out.data());
    what.out_bytes     = rows * sizeof(float);
    const tulu::path & path = tulu::NEON_DOTPROD;
    tulu::scratch memory;
    path.multiply(what, 1, memory.take(path.scratch_bytes(what, 1)));
    double error = 0, size = 0;
    for (int64_t n = 0; n < columns; n++) {
        for (int64_t r = 0; r < rows; r++) {
            double right = 0;
            for (int64_t k = 0; k < depth; k++) {
                right += static_cast<double>(weights[r * depth + k]) * x[n * depth + k];
            }
            error += std::pow(out[n * rows + r] - right, 2);
            size += right * right;
        }
    }
    check(error < 1e-3 * size, "product", type, rows, depth, columns, error / size);
}

void attention(ggml_type type) {
    const int64_t heads = 1 + below(8), kv_heads = 1 + below(3), n_kv = 1 + below(300), dim = 32 * (1 + below(4));
    const int64_t tokens = 1 + below(20), n_head = heads * kv_heads, seqs = 1 + below(tokens), beginning = below(n_kv);
    std::vector<float> q(tokens * n_head * dim), k(kv_heads * n_kv * dim), v(k.size()), out(q.size());
    for (auto * all : { &q, &k, &v }) {
        std::generate(all->begin(), all->end(), bell);
    }
    const std::vector<char> k_bytes = stored(type, k, dim), v_bytes = stored(type, v, dim);
    k = floats_of(type, k_bytes, k.size());
    v = floats_of(type, v_bytes, v.size());
    std::vector<uint16_t> mask(tokens * n_kv);
    for (int64_t i = 0; i < tokens * n_kv; i++) {
        const int64_t token = i / n_kv, cell = i % n_kv;
        mask[i] = cell < beginning || cell % seqs == token % seqs ? 0 : 0xfc00;
    }
    const size_t row = ggml_row_size(type, dim);
    tulu::attention op = {};
    op.dim = dim, op.n_tokens = tokens, op.n_head = n_head, op.n_head_kv = kv_heads, op.n_kv = n_kv;
    op.q = reinterpret_cast<const char *>(q.data());
    op.q_token = dim * sizeof(float), op.q_head = tokens * dim * sizeof(float);
    op.k_type = op.v_type = type == GGML_TYPE_Q8_0 ? tulu::kv_type::q8_0 : tulu::kv_type::f16;
    op.k_is_cached = true, op.k = k_bytes.data(), op.v = v_bytes.data();
    op.k_cell = op.v_cell = row, op.k_head = op.v_head = n_kv * row;
    op.mask = reinterpret_cast<const char *>(mask.data()), op.mask_token = n_kv * sizeof mask[0];
    op.scale = 1 / std::sqrt(static_cast<float>(dim)), op.out = out.data(), op.n_threads = 1;
    tulu::attention_kernel().compute(op);
    double worst = 0;
    for (int64_t i = 0; i < tokens * n_head; i++) {
        const int64_t token = i / n_head, head = i % n_head, kv = head / heads * n_kv;
        std::vector<double> sums(dim);
        double total = 0;
        for (int64_t cell = 0; cell < n_kv; cell++) {
            if (mask[token * n_kv + cell]) {
                continue;
            }
            double score = 0;
            for (int64_t d = 0; d < dim; d++) {
                score += static_cast<double>(q[(head * tokens + token) * dim + d]) * k[(kv + cell) * dim + d];
            }
            const double weight = std::exp(score * op.scale);
            total += weight;
            for (int64_t d = 0; d < dim; d++) {
                sums[d] += weight * v[(kv + cell) * dim + d];
            }
        }
        for (int64_t d = 0; d < dim; d++) {
            worst = std::max(worst, std::fabs(out[i * dim + d] - (total > 0 ? sums[d] / total : 0)));
        }
    }
    check(worst < 1e-5, "attention", type, tokens, n_head, n_kv, worst);
}

}  // namespace

int main(int argc, char ** argv) {
    const unsigned seed = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 20261126;
    std::printf("seed %u\n", seed);
    numbers.seed(seed);
    if (!tulu::NEON_DOTPROD.runs_here()) {
        std::printf("FAILED: the CPU has no dot product instructions\n");
        return 1;
    }
    for (const ggml_type type :
         { GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_Q8_0, GGML_TYPE_Q3_K, GGML_TYPE_Q2_K, GGML_TYPE_Q4_0,
           GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS }) {
        for (int i = 0; i < 12; i++) {
            product(type);
        }
    }
    for (int i = 0; i < 30; i++) {
        attention(GGML_TYPE_F16);
        attention(GGML_TYPE_Q8_0);
    }
    std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
    return failures ? 1 : 0;
}

// Sizes that the CPU kernels, the CUDA kernels and their bindings agree on.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define EGFORMER_EVERYWHERE __host__ __device__
#else
#define EGFORMER_EVERYWHERE
#endif

namespace egformer {

constexpr int kMaxModalities = 16;

EGFORMER_EVERYWHERE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace egformer

// What attention's blocks are made of: a small matrix product and a vectorised exp, compiled for several ISAs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "dispatch.h"

namespace egformer {

constexpr int64_t kRowTile = 4;
constexpr int64_t kColumnTile = 32;

// kRows x kColumnTile of C (+)= A B; the sums stay in registers.
template <class A, int kRows>
EGFORMER_INLINE void product_tile(const A* a, int64_t lda, const A* b, int64_t ldb, A* c, int64_t ldc, int64_t depth,
                                  bool add) {
  A sum[kRows][kColumnTile];
  for (int i = 0; i < kRows; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < kColumnTile; ++j) sum[i][j] = add ? c[i * ldc + j] : A(0);
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int i = 0; i < kRows; ++i) {
      const A factor = a[i * lda + k];
#pragma omp simd
      for (int64_t j = 0; j < kColumnTile; ++j) sum[i][j] += factor * b[k * ldb + j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
#pragma omp simd
    for (int64_t j = 0; j < kColumnTile; ++j) c[i * ldc + j] = sum[i][j];
  }
}

// C (rows x columns) (+)= A (rows x depth) B (depth x columns). columns is a multiple of kColumnTile: callers pad.
template <class A>
EGFORMER_INLINE void product_any(const A* a, int64_t lda, const A* b, int64_t ldb, A* c, int64_t ldc, int64_t rows,
                                 int64_t depth, int64_t columns, bool add) {
  for (int64_t j = 0; j < columns; j += kColumnTile) {
    int64_t i = 0;
    for (; i + kRowTile <= rows; i += kRowTile) {
      product_tile<A, kRowTile>(a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, depth, add);
    }
    for (; i < rows; ++i) product_tile<A, 1>(a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc, depth, add);
  }
}

void product(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t rows,
             int64_t depth, int64_t columns, bool add);
void product(const double* a, int64_t lda, const double* b, int64_t ldb, double* c, int64_t ldc, int64_t rows,
             int64_t depth, int64_t columns, bool add);

// exp for x <= 0, exactly 0 where x is -inf or underflows: 2^n times a polynomial on [-ln2/2, ln2/2], within 2 ulp.
EGFORMER_INLINE float exp_negative(float x) {
  const float bounded = x < -87.0f ? -87.0f : x;
  const float n = std::nearbyintf(bounded * 1.44269504088896341f);
  const float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return x < -87.0f ? 0.0f : p * scale;
}
EGFORMER_INLINE double exp_negative(double x) { return std::exp(x); }

}  // namespace egformer

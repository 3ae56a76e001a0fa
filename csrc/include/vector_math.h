// Vectors of kBytes for kernels of isa.h, in the compiler's own vector types, and a dot product and a fast 2^x on them.
// Vectors go by reference: by value they would need an instruction set that the oldest processor lacks.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "isa.h"

namespace egformer {

// Numbers in 64 bytes: the columns of a panel.
template <class A>
constexpr int64_t kPanel = 64 / sizeof(A);

template <class A, int kBytes>
struct VectorOf {
  typedef A type __attribute__((vector_size(kBytes)));
  typedef uint32_t bits __attribute__((vector_size(kBytes)));
  static constexpr int64_t kLanes = kBytes / sizeof(A);
};

template <class V, class A>
EGFORMER_INLINE void load(V& vector, const A* from) {
  std::memcpy(&vector, from, sizeof(V));
}
template <class V, class A>
EGFORMER_INLINE void store(const V& vector, A* to) {
  std::memcpy(to, &vector, sizeof(V));
}

// The sum of a[i] * b[i], in four running sums: one would wait for itself.
template <class A, int kBytes>
EGFORMER_INLINE A dot(const A* a, const A* b, int64_t count) {
  using V = typename VectorOf<A, kBytes>::type;
  constexpr int64_t kLanes = VectorOf<A, kBytes>::kLanes;
  V sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      V x, y;
      load(x, a + i + u * kLanes);
      load(y, b + i + u * kLanes);
      sum[u] += x * y;
    }
  }
  const V all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  A total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += all[lane];
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

// x = 2^x for x <= 0, exactly 0 where x is -inf or below -126: a polynomial on [-1/2, 1/2] within 2 ulp, times 2^n.
template <int kBytes>
EGFORMER_INLINE void exp2_negative(typename VectorOf<float, kBytes>::type& x) {
  using V = typename VectorOf<float, kBytes>::type;
  using Bits = typename VectorOf<float, kBytes>::bits;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves x, rounded to an integer, in the lowest bits
  const V shifted = x + kRound;
  const V r = x - (shifted - kRound);
  V p = 1.3398874404e-03f + r * 1.5353361943e-04f;
  p = p * r + 9.6184373575e-03f;
  p = p * r + 5.5503324712e-02f;
  p = p * r + 2.4022647914e-01f;
  p = p * r + 6.9314720286e-01f;
  p = p * r + 1.0f;
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127) << 23;
  V scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  x = x < -126.0f ? V{} : p * scale;
}
template <int kBytes>
EGFORMER_INLINE void exp2_negative(typename VectorOf<double, kBytes>::type& x) {
  for (int i = 0; i < VectorOf<double, kBytes>::kLanes; ++i) x[i] = std::exp2(x[i]);
}

}  // namespace egformer

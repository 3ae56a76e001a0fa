// The matrix product that attention's blocks are made of, for kernels of isa.h:
//
//     C (rows x columns) (+)= A (rows x depth) B (depth x columns)
//
// in tiles of kRows rows and one panel of 64 bytes of columns. A tile's sums fill 12 vector registers of whatever width
// the processor has (12 x 1, 6 x 2 or 3 x 4), which hides the latency of a multiply-add on all of them. A is read one
// number at a time through two strides, so that a transposed A costs the same; B and C are read by panels. What C holds
// is added to the finished sums: adding term by term to what many products have summed would round each to its size.
#pragma once

#include <cstdint>
#include <cstring>

#include "vector_math.h"

namespace egformer {

inline int64_t whole_panels(int64_t columns, int64_t panel) { return (columns + panel - 1) / panel * panel; }

template <class A>
struct Left {
  const A* at;
  int64_t row, step;  // distance from row to row, and along the depth
};
template <class A>
struct Right {
  const A* at;
  int64_t step, panel;  // distance along the depth, and from panel to panel
};
template <class A>
struct Sums {
  A* at;
  int64_t row;
};

template <class A, int kBytes, int kRows>
EGFORMER_INLINE void tile(Left<A> a, Right<A> b, Sums<A> c, int64_t depth, bool add) {
  using Vector = typename VectorOf<A, kBytes>::type;
  constexpr int kVectors = 64 / kBytes, kLanes = kBytes / sizeof(A);
  Vector sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j] = Vector{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vector line[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) std::memcpy(&line[j], b.at + k * b.step + j * kLanes, kBytes);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const A factor = a.at[i * a.row + k * a.step];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] += factor * line[j];
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      A* const at = c.at + i * c.row + j * kLanes;
      if (add) {
        Vector before;
        std::memcpy(&before, at, kBytes);
        sum[i][j] += before;
      }
      std::memcpy(at, &sum[i][j], kBytes);
    }
  }
}

// As many tiles of kRows rows as fit, from row i on.
template <class A, int kBytes, int kRows>
EGFORMER_INLINE int64_t tiles(Left<A> a, Right<A> b, Sums<A> c, int64_t i, int64_t rows, int64_t depth, bool add) {
  for (; i + kRows <= rows; i += kRows) {
    tile<A, kBytes, kRows>({a.at + i * a.row, a.row, a.step}, b, {c.at + i * c.row, c.row}, depth, add);
  }
  return i;
}

// columns: rounded up to whole panels, which the callers' buffers hold.
template <class A, int kBytes>
EGFORMER_INLINE void product(Left<A> a, Right<A> b, Sums<A> c, int64_t rows, int64_t depth, int64_t columns, bool add) {
  constexpr int kRows = 12 * kBytes / 64;
  for (int64_t j = 0; j * kPanel<A> < columns; ++j) {
    const Right<A> panel{b.at + j * b.panel, b.step, b.panel};
    const Sums<A> sums{c.at + j * kPanel<A>, c.row};
    int64_t i = tiles<A, kBytes, kRows>(a, panel, sums, 0, rows, depth, add);
    if constexpr (kRows >= 6) i = tiles<A, kBytes, kRows / 2>(a, panel, sums, i, rows, depth, add);
    tiles<A, kBytes, 1>(a, panel, sums, i, rows, depth, add);
  }
}

}  // namespace egformer

// The pass over the tokens that modality_score's time goes into, as kernels of isa.h: sums of blocks of tokens, and the
// means that they add up to.
#pragma once

#include "dispatch.h"

namespace egformer {

// sum[c] += the tokens of a block, one of each eighth of it at a time: eight streams keep more of memory's pages open
// than one and take up to twice its bandwidth.
template <class T>
struct AddRows {
  using A = Accumulate<T>;
  const T* x;
  int64_t tokens, channels, stride;
  A* sum;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    const int64_t eighth = tokens / 8, apart = eighth * stride;
    for (int64_t n = 0; n < eighth; ++n) {
      const T* const row = x + n * stride;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) sum[c] += four(row + c, apart) + four(row + 4 * apart + c, apart);
    }
    for (int64_t n = 8 * eighth; n < tokens; ++n) {
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) sum[c] += static_cast<A>(x[n * stride + c]);
    }
  }

  EGFORMER_INLINE A four(const T* at, int64_t apart) const {
    return (static_cast<A>(at[0]) + static_cast<A>(at[apart])) +
           (static_cast<A>(at[2 * apart]) + static_cast<A>(at[3 * apart]));
  }
};

// pooled (maps, C): the partial sums (maps, blocks, C), added in the order of the blocks, over the number of tokens.
template <class A>
struct MeanOfBlocks {
  const A* partial;
  int64_t maps, blocks, channels;
  double tokens;
  double* total;  // (C)
  A* pooled;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    for (int64_t map = 0; map < maps; ++map) {
      for (int64_t c = 0; c < channels; ++c) total[c] = 0;
      for (int64_t block = 0; block < blocks; ++block) {
        const A* const sums = partial + (map * blocks + block) * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; ++c) total[c] += static_cast<double>(sums[c]);
      }
      for (int64_t c = 0; c < channels; ++c) pooled[map * channels + c] = static_cast<A>(total[c] / tokens);
    }
  }
};

}  // namespace egformer

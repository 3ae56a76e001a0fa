// What forward and backward of modality_attention share on the device: tiles of rows in shared memory, the walk over
// the kept slots. The products of tiles are in attention_products.cuh.
//
// A tile is kRows rows of D elements without padding. Its 16-byte chunks are permuted within 128 bytes by the row, so
// that eight lanes touch eight different quarter-lines of the banks both when they read one chunk of eight rows
// (ldmatrix, the columns of a product) and when they write eight chunks in order (loads from global memory).
#pragma once

#include <cmath>
#include <type_traits>

#include "attention_params.h"
#include "device.cuh"

namespace egformer {

constexpr int kAttentionThreads = 128;

template <class T, int D>
struct Tile {
  static constexpr int kChunk = 16 / sizeof(T);  // elements
  static constexpr int kChunks = D / kChunk;     // of a row

  static __device__ int offset(int row, int chunk) {
    constexpr int kRowsOfLine = kChunks < 8 ? 8 / kChunks : 1, kMask = kChunks < 8 ? kChunks - 1 : 7;
    return row * D + (chunk ^ (row / kRowsOfLine & kMask)) * kChunk;
  }

  // kRows rows at source, stride elements apart, by the whole block; zeros behind the first `count`. Those are plain
  // stores: like the copies they are seen after cp_async_wait and a barrier. A thread keeps its chunk of the row and
  // goes down kStep rows at a time, in a loop of constant length: it stands in the inner loops of all kernels.
  template <int kRows>
  static __device__ __forceinline__ void load(T* tile, const T* source, int64_t stride, int64_t count) {
    constexpr int kStep = kAttentionThreads / kChunks, kRounds = kRows < kStep ? 1 : kRows / kStep;
    static_assert(kAttentionThreads % kChunks == 0 && (kRows < kStep || kRows % kStep == 0));
    const int first = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
    if (kRows < kStep && first >= kRows) return;
    const T* from = source + first * stride + chunk * kChunk;
    const int rows = count < kRows ? static_cast<int>(count) : kRows;
    T* const start = tile + offset(first, chunk);
    for (int round = 0; round < kRounds; ++round, from += kStep * stride) {
      // The permutation repeats itself every 8 rows.
      T* to = kStep % 8 == 0 ? start + round * kStep * D : tile + offset(first + round * kStep, chunk);
      if (first + round * kStep < rows) {
        cp_async_16(to, from);
      } else {
        store_shared(reinterpret_cast<uint4*>(to), make_uint4(0, 0, 0, 0));
      }
    }
  }
};

// Which rows of which (sample, head) a block owns: blocks are numbered with the tile fastest, so that neighbours share
// keys and values in the L2 cache.
struct QueryBlock {
  int64_t sample, head, first;
};
__device__ inline QueryBlock query_block(const AttentionParams& p, int rows) {
  const int64_t tiles = ceil_div(p.queries, rows), head = blockIdx.x / tiles;
  return {head / p.heads, head % p.heads, blockIdx.x % tiles * rows};
}

// e^x of a difference to a maximum or a logsumexp: x is small where the result matters, so that the product with
// log2(e) rounds nothing that counts; logits scaled by it beforehand would lose an ulp of their own size.
__device__ inline float exp_negative(float x) { return exp2_approx(x * 1.4426950408889634f); }

// e^(scale product + prior - base). Of 16-bit types, whose probabilities are rounded to 8 or 11 bits, in one fma and
// one power: what does not depend on the product is computed once a row.
template <class T>
__device__ __forceinline__ float exp_logit(float product, float scale, float prior, float base) {
  if constexpr (std::is_same_v<T, float>) {
    return exp_negative(fmaf(product, scale, prior) - base);
  } else {
    return exp2_approx(fmaf(product, scale * 1.4426950408889634f, (prior - base) * 1.4426950408889634f));
  }
}

// ---- kept slots ------------------------------------------------------------------------------------------------

// The modality in a slot, -1 when the slot is padded or names none.
__device__ inline int64_t modality_of(const AttentionParams& p, int64_t sample, int64_t slot) {
  const int64_t m = p.index == nullptr ? slot : p.index[sample * p.slots + slot];
  return m >= 0 && m < p.modalities ? m : -1;
}
__device__ inline float prior_of(const AttentionParams& p, int64_t sample, int64_t slot) {
  return p.bias == nullptr ? 0.0f : p.bias[sample * p.slots + slot];
}

// A tile of keys on the walk over the kept slots of a sample, the same for all threads of a block.
struct KeyTile {
  int64_t slot, modality, first;
};
__device__ inline KeyTile first_tile(const AttentionParams& p, int64_t sample, int64_t slot = 0) {
  for (; slot < p.slots; ++slot) {
    const int64_t m = modality_of(p, sample, slot);
    if (m >= 0) return {slot, m, 0};
  }
  return {p.slots, -1, 0};
}
__device__ inline KeyTile next_tile(const AttentionParams& p, int64_t sample, KeyTile at, int columns) {
  at.first += columns;
  return at.first < p.keys ? at : first_tile(p, sample, at.slot + 1);
}

// Where the rows of a sample and head begin; of one tile of them the block loads kRows.
template <class T, class Strides>
__device__ const T* head_of(const void* rows, const Strides& s, int64_t sample, int64_t head) {
  return static_cast<const T*>(rows) + sample * s.batch + head * s.head;
}
template <class T, int D, int kRows>
__device__ __forceinline__ void load_keys(T* tile, const T* head, const KeyStrides& s, int64_t count,
                                          const KeyTile& at) {
  Tile<T, D>::template load<kRows>(tile, head + at.modality * s.modality + at.first * s.row, s.row, count - at.first);
}
template <class T, int D, int kRows>
__device__ __forceinline__ void load_queries(T* tile, const T* head, const QueryStrides& s, int64_t count,
                                             int64_t first) {
  Tile<T, D>::template load<kRows>(tile, head + first * s.row, s.row, count - first);
}

}  // namespace egformer

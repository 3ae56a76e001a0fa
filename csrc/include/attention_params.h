// What modality_attention's CUDA launchers take: raw pointers, sizes, strides, a stream. The formulas are in
// egformer_fast/ops/modality_attention.py. Errors are std::invalid_argument, before any launch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "sizes.h"

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace egformer {

// Elements from one entry to the next; the last dimension, D, is dense.
struct QueryStrides {
  int64_t batch, head, row;
};
struct KeyStrides {
  int64_t batch, modality, head, row;
};

// Head dimensions the kernels are built for; the caller pads others with zeros.
constexpr int kHeadDims[] = {16, 32, 64, 128};

// q (B, H, Nq, D), k, v (B, M, H, Nk, D) of the launcher's T: any strides that keep rows on 16-byte addresses. The rest
// is dense: index (B, K), null: all modalities; bias (B, K), null: zeros; out (B, H, Nq, D) of T; lse (B, H, Nq).
struct AttentionParams {
  int64_t batch, modalities, heads, queries, keys, dim, slots;
  float scale;
  const void *q, *k, *v;
  QueryStrides q_strides;
  KeyStrides k_strides, v_strides;
  const int64_t* index;
  const float* bias;
  void* out;
  float* lse;
};

// Backward reads forward.out and forward.lse. d_out (B, H, Nq, D) is strided like q; d_q, d_k, d_v and d_bias (null
// exactly when bias is) are dense in the shapes of q, k, v and bias. scratch: attention_scratch(forward) floats.
struct AttentionBackwardParams {
  AttentionParams forward;
  const void* d_out;
  QueryStrides d_out_strides;
  void *d_q, *d_k, *d_v;
  float* d_bias;
  float* scratch;
};

constexpr int64_t kRowPadding = 64;  // lse and delta of a head are kept in rows of a multiple of this
constexpr int64_t kSmallestKeyTile = 32;

inline int64_t padded_queries(const AttentionParams& p) { return ceil_div(p.queries, kRowPadding) * kRowPadding; }
inline int64_t key_tiles(const AttentionParams& p, int64_t tile) { return ceil_div(p.keys, tile); }

// Keys are few (a pooled map has 64 a modality) where queries are many, so the blocks that own a tile of keys are cut
// along the queries until a large GPU has work. From the shape alone: the same bits on every device.
inline int64_t query_parts(const AttentionParams& p) {
  constexpr int64_t kBlocks = 384, kQueriesOfPart = 256;
  const int64_t blocks = std::max<int64_t>(1, p.batch * p.slots * p.heads * key_tiles(p, kRowPadding));
  return std::clamp<int64_t>(kBlocks / blocks, 1, std::max<int64_t>(1, p.queries / kQueriesOfPart));
}

// lse and delta of every padded row, d_k and d_v of every part where there are several, d_bias by block.
inline int64_t attention_scratch(const AttentionParams& p) {
  const int64_t parts = query_parts(p), maps = p.batch * p.modalities * p.heads * p.keys * p.dim;
  return 2 * p.batch * p.heads * padded_queries(p) + (parts > 1 ? 2 * parts * maps : 0) +
         p.batch * p.slots * p.heads * key_tiles(p, kSmallestKeyTile) * parts;
}

// T: float, __half, __nv_bfloat16; float without tensor cores.
template <class T>
void launch_modality_attention(const AttentionParams& params, cudaStream_t stream);
template <class T>
void launch_modality_attention_backward(const AttentionBackwardParams& params, cudaStream_t stream);

}  // namespace egformer

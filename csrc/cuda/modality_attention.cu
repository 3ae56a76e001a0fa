// modality_attention on CUDA, forward; the formulas are in egformer_fast/ops/modality_attention.py.
//
// A block owns a tile of queries of one (sample, head) and walks over the kept slots and their tiles of keys, read in
// place through index; padded slots are never loaded. Softmax online, in base 2 and float32:
//
//   s = scale log2(e) q k^T + log2(e) bias,  m' = max(m, s),  p = 2^(s - m'),  l = l 2^(m - m') + sum p
//   o = o 2^(m - m') + p v,  out = o / l,    lse = ln(2) (m + log2 l);   l = 0: out 0, lse -inf
//
// Keys and values have one buffer each: values arrive (cp.async) while logits are computed from the keys, the next keys
// while values are multiplied; two barriers a tile.
//
// Read: q once, k and v once for each tile of queries (from L2 within a head); written: out and lse once; nothing else.
//
//   T       D         queries x keys   shared memory
//   16-bit  16 .. 128    64 x 64       384 D bytes: 6 to 48 KiB
//   float   16 .. 64     64 x 32       512 D + 12288 bytes: 20 to 44 KiB
//   float   128          32 x 32       54 KiB
//
// Blocks of 4 warps on a multiprocessor (79 to 162 registers, nvcc 13.0, sm_80): in 16 bits 6, 5, 4 and 3 at D = 16,
// 32, 64 and 128; in float 4.
#include "attention_launch.cuh"
#include "attention_products.cuh"

namespace egformer {
namespace {

template <class T, int D>
struct Forward {
  using P = Products<T, D>;
  static constexpr int kRows = P::kRows, kColumns = std::is_same_v<T, float> ? 32 : 64;
  static constexpr int kTileBytes = (kRows + 2 * kColumns) * D * sizeof(T);
  static constexpr int kSharedBytes = kTileBytes + P::template kScratch<kColumns> * sizeof(float);
  using Logits = typename P::template Weights<kColumns>;
};

// Running maximum and, by thread, sum of a row.
template <class T, int D>
struct Softmax {
  using F = Forward<T, D>;
  using P = typename F::P;
  float largest[P::kRowSlots], total[P::kRowSlots];

  __device__ Softmax() {
    for (int i = 0; i < P::kRowSlots; ++i) largest[i] = -INFINITY, total[i] = 0.0f;
  }

  // Products <q, k> of `count` keys to probabilities relative to the largest logit so far.
  __device__ void update(typename F::Logits& logits, typename P::Rows& result, float scale, float prior,
                         int64_t count) {
    if (!(scale > 0.0f)) scale = scale_products(logits, scale);
    if (count < F::kColumns) P::clear_columns(logits, static_cast<int>(count), -INFINITY);
    for (int i = 0; i < P::kRowSlots; ++i) {
      float top = -INFINITY;
      for (int j = 0; j < F::Logits::kColumnSlots; ++j) top = fmaxf(top, logits.at(i, j));
      const float next = fmaxf(largest[i], fmaf(P::row_max(top), scale, prior));
      const float base = next == -INFINITY ? 0.0f : next;  // -inf - -inf would be NaN
      const float fade = exp_negative(largest[i] - base);
      float sum = 0.0f;
      for (int j = 0; j < F::Logits::kColumnSlots; ++j) {
        sum += logits.at(i, j) = exp_logit<T>(logits.at(i, j), scale, prior, base);
      }
      total[i] = total[i] * fade + sum;
      largest[i] = next;
      result.scale_row(i, fade);
    }
  }

  // The largest logit is that of the largest product where the scale is positive; any other is applied beforehand.
  static __device__ float scale_products(typename F::Logits& logits, float scale) {
    for (int i = 0; i < P::kRowSlots; ++i) {
      for (int j = 0; j < F::Logits::kColumnSlots; ++j) logits.at(i, j) *= scale;
    }
    return 1.0f;
  }

  // Divides the rows; lse of the first `count` rows at `lse`.
  __device__ void finish(typename P::Rows& result, float* lse, int64_t count) {
    for (int i = 0; i < P::kRowSlots; ++i) {
      const float sum = P::row_sum(total[i]);
      result.scale_row(i, sum == 0.0f ? 0.0f : 1.0f / sum);
      if (P::column(0) == 0 && P::row(i) < count) {
        lse[P::row(i)] = sum == 0.0f ? -INFINITY : largest[i] + logf(sum);
      }
    }
  }
};

template <class T, int D>
__global__ void __launch_bounds__(kAttentionThreads) modality_attention_kernel(AttentionParams p) {
  using F = Forward<T, D>;
  using P = typename F::P;
  EGFORMER_DYNAMIC_SHARED(T, queries);
  T *keys = queries + F::kRows * D, *values = keys + F::kColumns * D;
  float* scratch = reinterpret_cast<float*>(values + F::kColumns * D);
  const QueryBlock at = query_block(p, F::kRows);

  const T *k = head_of<T>(p.k, p.k_strides, at.sample, at.head), *v = head_of<T>(p.v, p.v_strides, at.sample, at.head);
  typename P::Rows result;
  Softmax<T, D> softmax;
  KeyTile tile = first_tile(p, at.sample);
  load_queries<T, D, F::kRows>(queries, head_of<T>(p.q, p.q_strides, at.sample, at.head), p.q_strides, p.queries,
                               at.first);
  if (tile.slot < p.slots) load_keys<T, D, F::kColumns>(keys, k, p.k_strides, p.keys, tile);
  cp_async_commit();
  while (tile.slot < p.slots) {
    cp_async_wait<0>();
    __syncthreads();  // keys are there, and no warp still reads values
    load_keys<T, D, F::kColumns>(values, v, p.v_strides, p.keys, tile);
    cp_async_commit();
    typename F::Logits logits;
    P::multiply(logits, queries, keys);
    softmax.update(logits, result, p.scale, prior_of(p, at.sample, tile.slot), p.keys - tile.first);
    cp_async_wait<0>();
    __syncthreads();  // values are there, and no warp still reads keys
    tile = next_tile(p, at.sample, tile, F::kColumns);
    if (tile.slot < p.slots) load_keys<T, D, F::kColumns>(keys, k, p.k_strides, p.keys, tile);
    cp_async_commit();
    P::accumulate(result, logits, values, scratch);
  }
  cp_async_wait<0>();
  __syncthreads();  // save overwrites the queries, which may still be arriving where no slot is kept

  const int64_t row = (at.sample * p.heads + at.head) * p.queries + at.first, count = p.queries - at.first;
  softmax.finish(result, p.lse + row, count);
  P::save(result, queries, static_cast<T*>(p.out) + row * D, count);
}

template <class T, int D>
void launch_forward(const AttentionParams& p, cudaStream_t stream) {
  using F = Forward<T, D>;
  const int64_t blocks = p.batch * p.heads * ceil_div(p.queries, F::kRows);
  if (blocks == 0) return;
  launch("modality_attention", modality_attention_kernel<T, D>, grid_of("modality_attention", blocks),
         dim3(kAttentionThreads), F::kSharedBytes, stream, p);
}

}  // namespace

template <class T>
void launch_modality_attention(const AttentionParams& p, cudaStream_t stream) {
  check_attention(p, sizeof(T));
  with_head_dim(p.dim, [&](auto dim) { launch_forward<T, decltype(dim)::value>(p, stream); });
}
template void launch_modality_attention<float>(const AttentionParams&, cudaStream_t);
template void launch_modality_attention<__half>(const AttentionParams&, cudaStream_t);
template void launch_modality_attention<__nv_bfloat16>(const AttentionParams&, cudaStream_t);

}  // namespace egformer

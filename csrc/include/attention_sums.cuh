// The small kernels around modality_attention's backward: terms of every query before, sums of partial results after.
#pragma once

#include "attention_products.cuh"

namespace egformer {

// Where things lie in scratch; rows: padded queries of a head.
struct Plan {
  int64_t rows, parts;
  float *lse, *delta, *d_k, *d_v, *d_bias;
};
inline Plan plan_of(const AttentionBackwardParams& b) {
  const AttentionParams& p = b.forward;
  Plan plan{padded_queries(p), query_parts(p), b.scratch, nullptr, nullptr, nullptr, nullptr};
  const int64_t terms = p.batch * p.heads * plan.rows;
  const int64_t part = plan.parts > 1 ? p.batch * p.modalities * p.heads * p.keys * p.dim : 0;
  plan.delta = plan.lse + terms;
  plan.d_k = plan.delta + terms;
  plan.d_v = plan.d_k + plan.parts * part;
  plan.d_bias = plan.d_v + plan.parts * part;
  return plan;
}

// lse and delta of every padded row: a group of lanes takes one, 16 bytes each.
template <class T, int D>
__global__ void __launch_bounds__(kAttentionThreads) row_terms(AttentionBackwardParams b, Plan plan) {
  constexpr int kLanes = Tile<T, D>::kChunks, kChunk = Tile<T, D>::kChunk;
  const AttentionParams& p = b.forward;
  const int64_t line = (blockIdx.x * int64_t{kAttentionThreads} + threadIdx.x) / kLanes;
  const int64_t head = line / plan.rows, n = line % plan.rows, row = head * p.queries + n;
  const int chunk = threadIdx.x % kLanes * kChunk;
  const bool real = head < p.batch * p.heads && n < p.queries;
  float sum = 0.0f;
  if (real) {
    const QueryStrides& s = b.d_out_strides;
    const T* d_out = static_cast<const T*>(b.d_out) + head / p.heads * s.batch + head % p.heads * s.head + n * s.row;
    const Vector<T> grad = load_vector(d_out + chunk);
    const Vector<T> out = load_vector(static_cast<const T*>(p.out) + row * D + chunk);
    for (int e = 0; e < kChunk; ++e) sum = fmaf(to_float(grad.value[e]), to_float(out.value[e]), sum);
  }
  sum = sum_over<kLanes>(sum);
  if (chunk != 0 || head >= p.batch * p.heads) return;
  // Rows with nothing to attend to, and padding: e^(s - inf) = 0.
  const float lse = real ? p.lse[row] : -INFINITY;
  plan.lse[line] = lse == -INFINITY ? INFINITY : lse;
  plan.delta[line] = sum;
}

// Row 0 of the grid: d_k, row 1: d_v; four elements a thread.
template <class T>
__global__ void __launch_bounds__(kAttentionThreads) sum_parts(AttentionBackwardParams b, Plan plan, int64_t elements) {
  const int64_t i = (blockIdx.x * int64_t{kAttentionThreads} + threadIdx.x) * 4;
  if (i >= elements) return;
  const float* from = (blockIdx.y == 0 ? plan.d_k : plan.d_v) + i;
  T* to = static_cast<T*>(blockIdx.y == 0 ? b.d_k : b.d_v) + i;
  float total[4] = {};
  for (int64_t part = 0; part < plan.parts; ++part) {
    const Vector<float> four = load_vector(from + part * elements);
    for (int e = 0; e < 4; ++e) total[e] += four.value[e];
  }
  for (int e = 0; e < 4; ++e) to[e] = from_float<T>(total[e]);
}

// The sum over a block, in every thread.
__device__ inline float block_sum(float value) {
  constexpr int kWarps = kAttentionThreads / 32;
  EGFORMER_SHARED(float, sums, [kWarps]);
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0.0f;
  for (int w = 0; w < kWarps; ++w) total += sums[w];
  __syncthreads();
  return total;
}

// A block for each (sample, slot).
static __global__ void __launch_bounds__(kAttentionThreads)
    sum_bias(AttentionBackwardParams b, Plan plan, int64_t partials) {
  const AttentionParams& p = b.forward;
  const bool kept = modality_of(p, blockIdx.x / p.slots, blockIdx.x % p.slots) >= 0;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; kept && i < partials; i += kAttentionThreads)
    sum += plan.d_bias[blockIdx.x * partials + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) b.d_bias[blockIdx.x] = sum;
}

}  // namespace egformer

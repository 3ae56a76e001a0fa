// The MLP of modality_score on a GPU: the logit of one map, computed by a block of kThreads.
//
// A warp takes kGroup hidden units at a time and adds w1 · pooled for all of them together: the loads of one unit do
// not wait for the sum of another, and the few bytes of a map's MLP are not there when the kernel begins.
#pragma once

#include "../cuda/modality_score.h"
#include "device.cuh"

namespace egformer {

__device__ __forceinline__ float normal(float x) { return (1 + erff(x * 0.70710678118654752440f)) / 2; }
__device__ __forceinline__ float gelu(float x) { return x * normal(x); }
__device__ __forceinline__ float gelu_gradient(float x) {
  return normal(x) + x * expf(-x * x / 2) * 0.39894228040143267794f;
}
__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }

// Brings w1 nearer, which needs no result of an earlier kernel.
template <int kThreads, class W>
__device__ __forceinline__ void prefetch_mlp(const ScoreWeights<W>& weights, const ScoreShape& shape) {
  constexpr int kLine = 128 / sizeof(W);
  const int64_t count = shape.hidden * shape.channels;
  for (int64_t i = static_cast<int64_t>(threadIdx.x) * kLine; i < count; i += kThreads * kLine)
    prefetch(weights.w1 + i);
}

// The logit, for all threads of the block; each(r, before) receives the hidden unit's value before gelu, in every lane
// of one warp.
template <int kThreads, class W, class Each>
__device__ __forceinline__ float run_mlp(const float* pooled, const ScoreWeights<W>& weights, const ScoreShape& shape,
                                         Each each) {
  constexpr int kWarps = kThreads / 32, kGroup = 4;
  EGFORMER_SHARED(float, logits, [kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int channels = static_cast<int>(shape.channels), hidden = static_cast<int>(shape.hidden);
  const float b2 = to_float(load(weights.b2));
  float logit = 0;
  for (int first = warp; first < hidden; first += kWarps * kGroup) {
    const W* row[kGroup];
    float sum[kGroup] = {}, b1[kGroup], w2[kGroup];
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      const int r = min(first + j * kWarps, hidden - 1);
      row[j] = weights.w1 + static_cast<int64_t>(r) * channels;
      b1[j] = to_float(load(weights.b1 + r));
      w2[j] = to_float(load(weights.w2 + r));
    }
#pragma unroll 4
    for (int c = lane; c < channels; c += 32) {
      const float mean = load(pooled + c);
#pragma unroll
      for (int j = 0; j < kGroup; ++j) sum[j] += to_float(load(row[j] + c)) * mean;
    }
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      if (first + j * kWarps >= hidden) break;
      const float before = warp_sum(sum[j]) + b1[j];
      each(first + j * kWarps, before);
      logit += w2[j] * gelu(before);
    }
  }
  if (lane == 0) logits[warp] = logit;
  __syncthreads();
  float total = b2;
  for (int i = 0; i < kWarps; ++i) total += logits[i];
  return total;
}

}  // namespace egformer

// Which modalities modality_drop keeps, decided by one warp: lane m holds modality m. The rules are in
// egformer_fast/ops/modality_drop.py, the CPU's twin in selection.h.
#pragma once

#include "../cuda/modality_drop.h"
#include "device.cuh"
#include "sizes.h"

namespace egformer {

// The kept modalities of one sample in ascending order, with their weights.
struct Selection {
  int count;
  int modality[kMaxModalities];
  float weight[kMaxModalities];
};

__device__ __forceinline__ float priority_of(const DropScores& scores, int64_t i) {
  return scores.priority != nullptr ? scores.priority[i] : scores.score[i];
}

__device__ __forceinline__ bool is_eligible(const DropScores& scores, int64_t i) {
  const float score = scores.score[i];
  return (scores.present == nullptr || scores.present[i]) && score >= 0 && score < INFINITY &&
         !isnan(priority_of(scores, i));
}

// How many of the candidates (a mask of lanes) come before this lane's: ties go to the lower lane.
template <class V>
__device__ __forceinline__ int rank_of(V value, unsigned candidates, int modalities) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int rank = 0;
  for (int m = 0; m < modalities; ++m) {
    const V other = __shfl_sync(kAllLanes, value, m);
    const bool before = other > value || (other == value && m < lane);
    rank += (candidates >> m & 1) != 0 && before;
  }
  return rank;
}

// One order for the whole batch, from the mean over the samples where a modality is eligible; one that is eligible
// nowhere, or whose mean is NaN (+inf and -inf met), comes last.
__device__ __forceinline__ float batch_priority(const DropScores& scores, int64_t batch, int modalities) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double total = 0;
  int64_t count = 0;
  if (lane < modalities) {
    for (int64_t i = lane; i < batch * modalities; i += modalities) {
      if (!is_eligible(scores, i)) continue;
      total += static_cast<double>(priority_of(scores, i));
      ++count;
    }
  }
  double mean = total / static_cast<double>(count);
  if (isnan(mean)) mean = -INFINITY;
  return -static_cast<float>(rank_of(mean, (1u << modalities) - 1, modalities));
}

// For all 32 lanes of one warp; `chosen` is in shared memory.
__device__ __forceinline__ void select(const DropScores& scores, const DropShape& shape, int64_t sample,
                                       Selection* chosen) {
  const int lane = static_cast<int>(threadIdx.x) % 32, modalities = static_cast<int>(shape.modalities);
  const bool mine = lane < modalities;
  const int64_t i = sample * modalities + lane;
  const bool eligible = mine && is_eligible(scores, i);
  const float score = mine ? scores.score[i] : 0;
  const float priority =
      scores.per_batch ? batch_priority(scores, shape.batch, modalities) : (mine ? priority_of(scores, i) : 0);
  const unsigned candidates = __ballot_sync(kAllLanes, eligible);
  const int rank = rank_of(priority, candidates, modalities);
  bool kept = eligible && rank < shape.keep;
  const float best = warp_max(kept ? score : 0);
  kept = kept && score >= scores.threshold * best;
  const unsigned survivors = __ballot_sync(kAllLanes, kept);
  const int count = __popc(survivors);
  float total = 0;  // in the order of the modalities, as every backend adds
  for (int m = 0; m < modalities; ++m) {
    const float other = __shfl_sync(kAllLanes, score, m);
    if ((survivors >> m & 1) != 0) total += other;
  }
  if (kept) {
    const int slot = __popc(survivors & ((1u << lane) - 1));
    chosen->modality[slot] = lane;
    chosen->weight[slot] = total > 0 ? score / total : 1.0f / static_cast<float>(count);
  }
  if (lane == 0) chosen->count = count;
}

}  // namespace egformer

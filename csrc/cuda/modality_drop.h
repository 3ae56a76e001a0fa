// Launchers of modality_drop.cu: raw pointers to device memory, nothing of torch.
#pragma once

#include <driver_types.h>

#include <cstdint>

namespace egformer {

struct DropShape {
  int64_t batch, modalities, tokens, channels, keep;
};

// The start of a tensor of rows of dense channels; strides in elements. Of d_fused the modality's is not used.
template <class T>
struct Rows {
  const T* data;
  int64_t batch_stride, modality_stride, token_stride;
};

// What the selection looks at, each (B, M) and dense; priority and present may be null.
struct DropScores {
  const float *score, *priority;
  const bool* present;
  float threshold;
  bool per_batch;
};

// x (B, M, N, C). Outputs are dense: survivors (B, K, N, C) or null, fused (B, N, C), index and weight (B, K).
template <class T>
struct DropOutputs {
  T *survivors, *fused;
  int64_t* index;
  float* weight;
};
template <class T>
void modality_drop(const Rows<T>& x, const DropScores& scores, const DropShape& shape, const DropOutputs<T>& outputs,
                   cudaStream_t stream);

// Floats of scratch memory that backward needs; their content does not matter.
int64_t drop_backward_scratch(const DropShape& shape);

// d_survivors (B, K, N, C), d_fused (B, N, C) and d_weight (B, K) may be null; d_x and d_score are dense.
template <class T>
struct DropGradients {
  Rows<T> d_survivors, d_fused;
  const float* d_weight;
};
template <class T>
void modality_drop_backward(const DropGradients<T>& gradients, const Rows<T>& x, const float* score,
                            const int64_t* index, const float* weight, const DropShape& shape, float* scratch, T* d_x,
                            float* d_score, cudaStream_t stream);

}  // namespace egformer

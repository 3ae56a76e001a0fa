// Launchers of modality_score.cu: raw pointers to device memory, nothing of torch.
#pragma once

#include <driver_types.h>

#include <cstdint>

namespace egformer {

// x (B, M, N, C) with dense channels; strides in elements.
struct ScoreShape {
  int64_t batch, modalities, tokens, channels, hidden;
  int64_t batch_stride, modality_stride, token_stride;
};

// The MLP's weights, dense: w1 (R, C), b1 (R), w2 (R), b2 ().
template <class W>
struct ScoreWeights {
  const W *w1, *b1, *w2, *b2;
};

// Floats of scratch memory that forward and backward need; their content does not matter.
int64_t score_scratch(const ScoreShape& shape);
int64_t score_backward_scratch(const ScoreShape& shape);

// score (B, M), pooled (B, M, C); present (B, M) may be null. T is x's type, W the weights': T or float.
template <class T, class W>
void modality_score(const T* x, const ScoreWeights<W>& weights, const bool* present, const ScoreShape& shape,
                    float* scratch, float* score, float* pooled, cudaStream_t stream);

// Of shape only B, M, C and R matter. d_score (B, M), pooled and d_pooled (B, M, C), the others like the weights.
template <class W>
struct ScoreGradients {
  float* d_pooled;
  W *w1, *b1, *w2, *b2;
};
template <class W>
void modality_score_backward(const float* d_score, const float* pooled, const ScoreWeights<W>& weights,
                             const bool* present, const ScoreShape& shape, float* scratch,
                             const ScoreGradients<W>& gradients, cudaStream_t stream);

}  // namespace egformer

#include <cmath>

#include "../cuda/modality_drop.h"
#include "checks.h"
#include "device.cuh"

namespace egformer {
namespace {

template <class T>
void run(int64_t batch, int64_t modalities, int64_t tokens, int64_t channels, int64_t keep, bool per_batch) {
  const DropShape shape{batch, modalities, tokens, channels, keep};
  const int64_t map = tokens * channels;
  const auto x = some_values<T>(batch * modalities * map), d_fused = some_values<T>(batch * map, 2),
             d_survivors = some_values<T>(batch * keep * map, 3);
  auto score = some_values<float>(batch * modalities, 4);
  for (float& value : score) value = std::fabs(value);
  score[0] = NAN;
  std::vector<T> survivors(batch * keep * map), fused(batch * map), d_x(x);
  std::vector<int64_t> index(batch * keep);
  std::vector<float> weight(batch * keep), d_score(batch * modalities), scratch(drop_backward_scratch(shape));
  const Rows<T> tokens_of_x{x.data(), modalities * map, map, channels};
  modality_drop(tokens_of_x, DropScores{score.data(), nullptr, nullptr, 0.1f, per_batch}, shape,
                DropOutputs<T>{survivors.data(), fused.data(), index.data(), weight.data()}, nullptr);
  const DropGradients<T> gradients{
      {d_survivors.data(), keep * map, map, channels}, {d_fused.data(), map, 0, channels}, weight.data()};
  modality_drop_backward(gradients, tokens_of_x, score.data(), index.data(), weight.data(), shape, scratch.data(),
                         d_x.data(), d_score.data(), nullptr);
}

const Check check("modality_drop", [] {
  run<float>(2, 3, 70, 12, 2, false);
  run<__nv_bfloat16>(3, 6, 33, 40, 5, true);
  run<__half>(1, 1, 5, 7, 1, false);    // not vectorizable
  run<__half>(1, 2, 300, 64, 2, true);  // several blocks
});

}  // namespace
}  // namespace egformer

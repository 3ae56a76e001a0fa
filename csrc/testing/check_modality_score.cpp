#include <memory>

#include "../cuda/modality_score.h"
#include "checks.h"
#include "device.cuh"

namespace egformer {
namespace {

template <class T, class W>
void run(int64_t batch, int64_t modalities, int64_t tokens, int64_t channels, bool absent) {
  const int64_t hidden = 9, maps = batch * modalities;
  const ScoreShape shape{
      batch, modalities, tokens, channels, hidden, modalities * tokens * channels, tokens * channels, channels};
  const auto x = some_values<T>(maps * tokens * channels);
  const auto w1 = some_values<W>(hidden * channels, 2), b1 = some_values<W>(hidden, 3), w2 = some_values<W>(hidden, 4),
             b2 = some_values<W>(1, 5);
  const ScoreWeights<W> weights{w1.data(), b1.data(), w2.data(), b2.data()};
  const std::unique_ptr<bool[]> present(new bool[maps]);
  for (int64_t map = 0; map < maps; ++map) present[map] = !absent || map % 3 != 1;
  std::vector<float> scratch(score_scratch(shape)), score(maps), pooled(maps * channels), d_pooled(maps * channels);
  modality_score(x.data(), weights, present.get(), shape, scratch.data(), score.data(), pooled.data(), nullptr);
  scratch.assign(score_backward_scratch(shape), 0);
  scratch.shrink_to_fit();
  std::vector<W> d_w1(w1), d_b1(b1), d_w2(w2), d_b2(b2);
  modality_score_backward(score.data(), pooled.data(), weights, present.get(), shape, scratch.data(),
                          ScoreGradients<W>{d_pooled.data(), d_w1.data(), d_b1.data(), d_w2.data(), d_b2.data()},
                          nullptr);
}

const Check check("modality_score", [] {
  run<float, float>(1, 3, 70, 12, true);
  run<__nv_bfloat16, float>(2, 2, 33, 40, false);
  run<__half, __half>(1, 1, 5, 7, false);   // not vectorizable
  run<__half, __half>(1, 2, 3, 264, true);  // more columns than a block has
});

}  // namespace
}  // namespace egformer

// modality_attention under the sanitizers: ragged tiles, a padded and a repeated slot, several parts of the queries.
#include "attention_params.h"
#include "checks.h"
#include "device.cuh"

namespace egformer {
namespace {

template <class T>
void attend(int64_t queries, int64_t keys, int64_t dim) {
  constexpr int64_t kModalities = 3, kSlots = 4;
  const std::vector<int64_t> index = {2, -1, 0, 2};
  const std::vector<float> bias = {0.5f, 0.0f, -1.0f, 0.25f};
  const size_t rows = queries * dim, map = kModalities * keys * dim;
  const auto q = some_values<T>(rows), d_out = some_values<T>(rows, 2), k = some_values<T>(map, 3),
             v = some_values<T>(map, 4);
  std::vector<T> out(rows), d_q(rows), d_k(map), d_v(map);
  std::vector<float> lse(queries), d_bias(kSlots);
  const KeyStrides key_strides{kModalities * keys * dim, keys * dim, keys * dim, dim};
  const AttentionParams p{.batch = 1,
                          .modalities = kModalities,
                          .heads = 1,
                          .queries = queries,
                          .keys = keys,
                          .dim = dim,
                          .slots = kSlots,
                          .scale = 0.25f,
                          .q = q.data(),
                          .k = k.data(),
                          .v = v.data(),
                          .q_strides = {queries * dim, queries * dim, dim},
                          .k_strides = key_strides,
                          .v_strides = key_strides,
                          .index = index.data(),
                          .bias = bias.data(),
                          .out = out.data(),
                          .lse = lse.data()};
  launch_modality_attention<T>(p, nullptr);
  std::vector<float> scratch(attention_scratch(p));
  launch_modality_attention_backward<T>({.forward = p,
                                         .d_out = d_out.data(),
                                         .d_out_strides = p.q_strides,
                                         .d_q = d_q.data(),
                                         .d_k = d_k.data(),
                                         .d_v = d_v.data(),
                                         .d_bias = d_bias.data(),
                                         .scratch = scratch.data()},
                                        nullptr);
}

const Check check("modality_attention", [] {
  attend<float>(70, 37, 16);
  attend<__half>(70, 37, 16);
  attend<__nv_bfloat16>(530, 70, 16);  // two parts
  attend<__half>(5, 33, 64);
});

}  // namespace
}  // namespace egformer

// modality_score on the CPU: one pass over the tokens, then a small MLP on their mean; the formulas are in
// egformer_fast/ops/modality_score.py.
//
// Tasks of one (sample, modality, block of tokens) write partial sums, which are added in the order of the blocks: the
// result does not depend on the number of threads. Missing modalities cost no loads. Backward works on the means alone.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "dispatch.h"

namespace egformer {
namespace {

// sum[c] += the tokens of a block, four rows at a time.
template <class T>
EGFORMER_INLINE void add_rows_any(const T* x, int64_t tokens, int64_t channels, int64_t stride, Accumulate<T>* sum) {
  using A = Accumulate<T>;
  int64_t n = 0;
  for (; n + 4 <= tokens; n += 4) {
    const T *r0 = x + n * stride, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      sum[c] += (static_cast<A>(r0[c]) + static_cast<A>(r1[c])) + (static_cast<A>(r2[c]) + static_cast<A>(r3[c]));
    }
  }
  for (; n < tokens; ++n) {
    const T* row = x + n * stride;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) sum[c] += static_cast<A>(row[c]);
  }
}

EGFORMER_CLONES void add_rows(const float* x, int64_t n, int64_t c, int64_t s, float* sum) {
  add_rows_any(x, n, c, s, sum);
}
EGFORMER_CLONES void add_rows(const double* x, int64_t n, int64_t c, int64_t s, double* sum) {
  add_rows_any(x, n, c, s, sum);
}
EGFORMER_CLONES void add_rows(const BFloat16* x, int64_t n, int64_t c, int64_t s, float* sum) {
  add_rows_any(x, n, c, s, sum);
}
EGFORMER_CLONES void add_rows(const Half* x, int64_t n, int64_t c, int64_t s, float* sum) {
  add_rows_any(x, n, c, s, sum);
}

// pooled (B, M, C): means over the tokens, zeros where not present.
template <class T>
void pool(const Tensor& x, const bool* present, Accumulate<T>* pooled) {
  using A = Accumulate<T>;
  const int64_t maps = x.size(0) * x.size(1), tokens = x.size(2), channels = x.size(3);
  const int64_t step = block_tokens(channels), blocks = ceil_div(tokens, step);
  std::vector<A> partial(maps * blocks * channels, A(0));
  torch::stable::parallel_for(0, maps * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t map = task / blocks, first = task % blocks * step;
      if (present != nullptr && !present[map]) continue;
      const T* rows = read<T>(x) + map / x.size(1) * x.stride(0) + map % x.size(1) * x.stride(1) + first * x.stride(2);
      add_rows(rows, std::min(step, tokens - first), channels, x.stride(2), partial.data() + task * channels);
    }
  });
  for (int64_t i = 0; i < maps * channels; ++i) {
    double total = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      total += static_cast<double>(partial[(i / channels * blocks + block) * channels + i % channels]);
    }
    pooled[i] = static_cast<A>(total / static_cast<double>(tokens));
  }
}

// The MLP's weights in the dtype of the sums.
template <class A>
struct Mlp {
  std::vector<A> w1, b1, w2, b2;
  int64_t hidden, channels;

  Mlp(const Tensor& w1_, const Tensor& b1_, const Tensor& w2_, const Tensor& b2_)
      : w1(copy(w1_)), b1(copy(b1_)), w2(copy(w2_)), b2(copy(b2_)), hidden(w1_.size(0)), channels(w1_.size(1)) {}

  static std::vector<A> copy(const Tensor& tensor) {
    const Tensor source = dense(tensor);
    std::vector<A> values(source.numel());
    dispatch(source.scalar_type(), [&](auto type) {
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<A>(read<decltype(type)>(source)[i]);
    });
    return values;
  }

  // before[r] = W1 pooled + b1; returns the logit.
  A run(const A* pooled, A* before) const {
    A logit = b2[0];
    for (int64_t r = 0; r < hidden; ++r) {
      A sum = 0;
      for (int64_t c = 0; c < channels; ++c) sum += w1[r * channels + c] * pooled[c];
      before[r] = sum + b1[r];
      logit += w2[r] * gelu(before[r]);
    }
    return logit;
  }

  static A gelu(A x) { return x * normal(x); }
  static A gelu_gradient(A x) { return normal(x) + x * std::exp(-x * x / 2) * static_cast<A>(0.39894228040143267794); }
  static A normal(A x) { return (1 + std::erf(x * static_cast<A>(0.70710678118654752440))) / 2; }
};

template <class A>
bool all_finite(const A* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) return false;
  }
  return true;
}

std::tuple<Tensor, Tensor> modality_score(const Tensor& x_, const Tensor& w1, const Tensor& b1, const Tensor& w2,
                                          const Tensor& b2, const std::optional<Tensor>& present_) {
  const Tensor x = rows(x_);
  const std::optional<Tensor> present = dense(present_);
  const bool* here = present ? read<bool>(*present) : nullptr;
  const int64_t maps = x.size(0) * x.size(1), channels = x.size(3);
  const ScalarType dtype = accumulate_dtype(x.scalar_type());
  const Tensor score = torch::stable::new_empty(x, {x.size(0), x.size(1)}, dtype);
  const Tensor pooled = torch::stable::new_empty(x, {x.size(0), x.size(1), channels}, dtype);
  dispatch(x.scalar_type(), [&](auto type) {
    using A = Accumulate<decltype(type)>;
    A* means = write<A>(pooled);
    pool<decltype(type)>(x, here, means);
    const Mlp<A> mlp(w1, b1, w2, b2);
    std::vector<A> before(mlp.hidden);
    for (int64_t map = 0; map < maps; ++map) {
      const A logit = mlp.run(means + map * channels, before.data());
      const bool finite = all_finite(means + map * channels, channels) && std::isfinite(logit);
      const A value = finite ? 1 / (1 + std::exp(-logit)) : std::numeric_limits<A>::quiet_NaN();
      write<A>(score)[map] = here == nullptr || here[map] ? value : A(0);
    }
  });
  return {score, pooled};
}

// Sums of the gradients of one call, in the dtype of the sums.
template <class A>
struct Gradients {
  std::vector<A> w1, b1, w2, b2;
  explicit Gradients(const Mlp<A>& mlp)
      : w1(mlp.w1.size(), A(0)), b1(mlp.b1.size(), A(0)), w2(mlp.w2.size(), A(0)), b2(1, A(0)) {}
};

// One map: adds to the sums, writes d_pooled (C entries, zeroed by the caller).
template <class A>
void backward_map(const Mlp<A>& mlp, A d_score, const A* pooled, A* before, Gradients<A>& sums, A* d_pooled) {
  if (!all_finite(pooled, mlp.channels)) return;
  const A logit = mlp.run(pooled, before);
  if (!std::isfinite(logit)) return;
  const A score = 1 / (1 + std::exp(-logit));
  const A d_logit = d_score * (score * (1 - score));
  sums.b2[0] += d_logit;
  for (int64_t r = 0; r < mlp.hidden; ++r) {
    const A d_before = d_logit * mlp.w2[r] * Mlp<A>::gelu_gradient(before[r]);
    sums.w2[r] += d_logit * Mlp<A>::gelu(before[r]);
    sums.b1[r] += d_before;
    for (int64_t c = 0; c < mlp.channels; ++c) {
      sums.w1[r * mlp.channels + c] += d_before * pooled[c];
      d_pooled[c] += d_before * mlp.w1[r * mlp.channels + c];
    }
  }
}

template <class A>
Tensor like(const Tensor& weight, const std::vector<A>& values) {
  const Tensor result = torch::stable::empty_like(dense(weight));
  dispatch(weight.scalar_type(), [&](auto type) {
    using T = decltype(type);
    for (size_t i = 0; i < values.size(); ++i) {
      write<T>(result)[i] = narrow<T>(static_cast<Accumulate<T>>(values[i]));
    }
  });
  return result;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> modality_score_backward(const Tensor& d_score_,
                                                                           const Tensor& pooled_, const Tensor& w1,
                                                                           const Tensor& b1, const Tensor& w2,
                                                                           const Tensor& b2,
                                                                           const std::optional<Tensor>& present_) {
  const Tensor d_score = dense(d_score_), pooled = dense(pooled_);
  const std::optional<Tensor> present = dense(present_);
  const int64_t maps = d_score.numel(), channels = pooled.size(2);
  const Tensor d_pooled = torch::stable::new_empty(pooled, {pooled.size(0), pooled.size(1), channels});
  const auto run = [&](auto type) -> std::tuple<Tensor, Tensor, Tensor, Tensor> {
    using A = decltype(type);
    const Mlp<A> mlp(w1, b1, w2, b2);
    Gradients<A> sums(mlp);
    std::vector<A> before(mlp.hidden);
    std::memset(d_pooled.mutable_data_ptr(), 0, sizeof(A) * maps * channels);
    for (int64_t map = 0; map < maps; ++map) {
      if (present && !read<bool>(*present)[map]) continue;
      backward_map(mlp, read<A>(d_score)[map], read<A>(pooled) + map * channels, before.data(), sums,
                   write<A>(d_pooled) + map * channels);
    }
    return {like(w1, sums.w1), like(b1, sums.b1), like(w2, sums.w2), like(b2, sums.b2)};
  };
  const auto [d_w1, d_b1, d_w2, d_b2] = pooled.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  return {d_pooled, d_w1, d_b1, d_w2, d_b2};
}

}  // namespace
}  // namespace egformer

STABLE_TORCH_LIBRARY_IMPL(egformer_fast, CPU, m) {
  m.impl("modality_score", TORCH_BOX(&egformer::modality_score));
  m.impl("modality_score_cpu", TORCH_BOX(&egformer::modality_score));
  m.impl("modality_score_backward", TORCH_BOX(&egformer::modality_score_backward));
  m.impl("modality_score_backward_cpu", TORCH_BOX(&egformer::modality_score_backward));
}

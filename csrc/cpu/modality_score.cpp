// modality_score on the CPU: one pass over the tokens, then a small MLP on their mean; the formulas are in
// egformer_fast/ops/modality_score.py.
//
// Tasks of one (sample, modality, block of tokens) write partial sums, which are added in the order of the blocks: the
// result does not depend on the number of threads. Missing modalities cost no loads. Backward works on the means alone:
// first map by map, then hidden unit by hidden unit, so that every sum belongs to one task.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "token_sums.h"
#include "vector_math.h"

namespace egformer {
namespace {

// pooled (B, M, C): means over the tokens, zeros where not present.
template <class T>
void pool(const Tensor& x, const bool* present, Accumulate<T>* pooled) {
  using A = Accumulate<T>;
  const int64_t modalities = x.size(1), maps = x.size(0) * modalities, tokens = x.size(2), channels = x.size(3);
  const int64_t sample = x.stride(0), modality = x.stride(1), row = x.stride(2);
  const T* const data = read<T>(x);
  const int64_t step = block_tokens(channels), blocks = ceil_div(tokens, step);
  std::vector<A> partial(maps * blocks * channels, A(0));
  torch::stable::parallel_for(0, maps * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t map = task / blocks, first = task % blocks * step;
      if (present != nullptr && !present[map]) continue;
      const T* rows = data + map / modalities * sample + map % modalities * modality + first * row;
      run_best(AddRows<T>{rows, std::min(step, tokens - first), channels, row, partial.data() + task * channels});
    }
  });
  std::vector<double> total(channels);
  run_best(MeanOfBlocks<A>{partial.data(), maps, blocks, channels, static_cast<double>(tokens), total.data(), pooled});
}

// A weight in the dtype of the sums: its own memory where it has that dtype, else a copy.
template <class A>
class Weight {
 public:
  explicit Weight(const Tensor& tensor) : source_(dense(tensor)) {
    dispatch(source_.scalar_type(), [&](auto type) {
      const auto* const from = read<decltype(type)>(source_);
      if constexpr (std::is_same_v<decltype(type), A>) {
        data_ = from;
      } else {
        copy_.resize(source_.numel());
        for (size_t i = 0; i < copy_.size(); ++i) copy_[i] = static_cast<A>(from[i]);
        data_ = copy_.data();
      }
    });
  }
  Weight(const Weight&) = delete;
  const A* data() const { return data_; }
  A operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return source_.numel(); }

 private:
  Tensor source_;
  std::vector<A> copy_;
  const A* data_ = nullptr;
};

template <class A>
struct Mlp {
  Weight<A> w1, b1, w2, b2;
  int64_t hidden, channels;

  Mlp(const Tensor& w1_, const Tensor& b1_, const Tensor& w2_, const Tensor& b2_)
      : w1(w1_), b1(b1_), w2(w2_), b2(b2_), hidden(w1_.size(0)), channels(w1_.size(1)) {}

  // before[r] = W1 pooled + b1; returns the logit.
  template <int kBytes>
  EGFORMER_INLINE A run(const A* pooled, A* before) const {
    A logit = b2[0];
    for (int64_t r = 0; r < hidden; ++r) {
      before[r] = dot<A, kBytes>(w1.data() + r * channels, pooled, channels) + b1[r];
      logit += w2[r] * gelu(before[r]);
    }
    return logit;
  }

  static A gelu(A x) { return x * normal(x); }
  static A gelu_gradient(A x) { return normal(x) + x * std::exp(-x * x / 2) * static_cast<A>(0.39894228040143267794); }
  static A normal(A x) { return (1 + std::erf(x * static_cast<A>(0.70710678118654752440))) / 2; }
};

template <class A>
EGFORMER_INLINE bool all_finite(const A* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) return false;
  }
  return true;
}

// Maps worth a thread of their own.
inline int64_t grain(int64_t hidden, int64_t channels) {
  return std::max<int64_t>(1, kBlockElements / std::max<int64_t>(1, hidden * channels));
}

// Scores of some maps from their means, a kernel of isa.h.
template <class A>
struct ScoreMaps {
  const Mlp<A>& mlp;
  const A* pooled;
  const bool* present;  // null: all
  int64_t begin, end;
  A *before, *score;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    for (int64_t map = begin; map < end; ++map) {
      const A* const means = pooled + map * mlp.channels;
      const A logit = mlp.template run<kBytes>(means, before);
      const bool finite = all_finite(means, mlp.channels) && std::isfinite(logit);
      const A value = finite ? 1 / (1 + std::exp(-logit)) : std::numeric_limits<A>::quiet_NaN();
      score[map] = present == nullptr || present[map] ? value : A(0);
    }
  }
};

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
    A* const scores = write<A>(score);
    torch::stable::parallel_for(0, maps, grain(mlp.hidden, channels), [&](int64_t begin, int64_t end) {
      std::vector<A> before(mlp.hidden);
      run_best(ScoreMaps<A>{mlp, means, here, begin, end, before.data(), scores});
    });
  });
  return {score, pooled};
}

// What every map gives to the gradients of the weights; nothing where it is absent or not finite (`live`).
template <class A>
struct Terms {
  std::vector<char> live;
  std::vector<A> d_logit, d_before, d_w2;  // (maps), (maps, R), (maps, R)
  Terms(int64_t maps, int64_t hidden) : live(maps), d_logit(maps), d_before(maps * hidden), d_w2(maps * hidden) {}
};

// Terms and d_pooled of some maps, a kernel of isa.h.
template <class A>
struct BackwardMaps {
  const Mlp<A>& mlp;
  const A *d_score, *pooled;
  const bool* present;  // null: all
  int64_t begin, end;
  Terms<A>& terms;
  A *before, *d_pooled;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    for (int64_t map = begin; map < end; ++map) {
      A* const d_means = d_pooled + map * mlp.channels;
      for (int64_t c = 0; c < mlp.channels; ++c) d_means[c] = 0;
      if (present == nullptr || present[map]) one<kBytes>(map, pooled + map * mlp.channels, d_means);
    }
  }

  template <int kBytes>
  EGFORMER_INLINE void one(int64_t map, const A* means, A* d_means) const {
    if (!all_finite(means, mlp.channels)) return;
    const A logit = mlp.template run<kBytes>(means, before);
    if (!std::isfinite(logit)) return;
    const A score = 1 / (1 + std::exp(-logit));
    const A d_logit = d_score[map] * (score * (1 - score));
    terms.live[map] = 1;
    terms.d_logit[map] = d_logit;
    for (int64_t r = 0; r < mlp.hidden; ++r) {
      const A d_before = d_logit * mlp.w2[r] * Mlp<A>::gelu_gradient(before[r]);
      const A* const row = mlp.w1.data() + r * mlp.channels;
      terms.d_before[map * mlp.hidden + r] = d_before;
      terms.d_w2[map * mlp.hidden + r] = d_logit * Mlp<A>::gelu(before[r]);
#pragma omp simd
      for (int64_t c = 0; c < mlp.channels; ++c) d_means[c] += d_before * row[c];
    }
  }
};

// Gradients of the weights, in the dtype of the sums.
template <class A>
struct Gradients {
  std::vector<A> w1, b1, w2, b2;
  explicit Gradients(const Mlp<A>& mlp)
      : w1(mlp.w1.size(), A(0)), b1(mlp.b1.size(), A(0)), w2(mlp.w2.size(), A(0)), b2(1, A(0)) {}
};

// The gradients of some hidden units' weights: sums over the maps in order, a kernel of isa.h.
template <class A>
struct BackwardUnits {
  const Terms<A>& terms;
  const A* pooled;
  int64_t maps, hidden, channels, begin, end;
  Gradients<A>& sums;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    for (int64_t r = begin; r < end; ++r) {
      A* const d_row = sums.w1.data() + r * channels;
      for (int64_t map = 0; map < maps; ++map) {
        if (!terms.live[map]) continue;
        const A d_before = terms.d_before[map * hidden + r];
        const A* const means = pooled + map * channels;
        sums.b1[r] += d_before;
        sums.w2[r] += terms.d_w2[map * hidden + r];
#pragma omp simd
        for (int64_t c = 0; c < channels; ++c) d_row[c] += d_before * means[c];
      }
    }
  }
};

template <class A>
Tensor like(const Tensor& weight, const std::vector<A>& values) {
  const Tensor result = torch::stable::empty_like(dense(weight));
  dispatch(weight.scalar_type(), [&](auto type) {
    using T = decltype(type);
    T* const to = write<T>(result);
    for (size_t i = 0; i < values.size(); ++i) to[i] = narrow<T>(static_cast<Accumulate<T>>(values[i]));
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
    Terms<A> terms(maps, mlp.hidden);
    Gradients<A> sums(mlp);
    const A *const d_scores = read<A>(d_score), *const means = read<A>(pooled);
    const bool* const here = present ? read<bool>(*present) : nullptr;
    A* const d_means = write<A>(d_pooled);
    torch::stable::parallel_for(0, maps, grain(mlp.hidden, channels), [&](int64_t begin, int64_t end) {
      std::vector<A> before(mlp.hidden);
      run_best(BackwardMaps<A>{mlp, d_scores, means, here, begin, end, terms, before.data(), d_means});
    });
    torch::stable::parallel_for(0, mlp.hidden, grain(maps, channels), [&](int64_t begin, int64_t end) {
      run_best(BackwardUnits<A>{terms, means, maps, mlp.hidden, channels, begin, end, sums});
    });
    for (int64_t map = 0; map < maps; ++map) sums.b2[0] += terms.live[map] ? terms.d_logit[map] : A(0);
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

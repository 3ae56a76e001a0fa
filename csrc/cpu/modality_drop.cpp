// modality_drop on the CPU: selection, gather and weighted sum in one pass; the formulas are in
// egformer_fast/ops/modality_drop.py.
//
// Forward: each sample's selection takes a few comparisons of M scores; then tasks of one block of tokens each read
// every kept row once, write it to its slot, and write the sum. Backward: tasks of one (sample, modality, block) write
// d_x and a partial dot product of d_fused and x. Blocks have a fixed size, so results do not depend on the number of
// threads.
#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "dispatch.h"
#include "selection.h"

namespace egformer {
namespace {

// ---- rows ------------------------------------------------------------------------------------------------------

// A block of tokens: out = sum_j weight[j] * source[j], and copy[j] = source[j] where copy is wanted.
template <class T>
struct FuseBlock {
  const T* source[kMaxModalities];
  T* copy[kMaxModalities];
  Accumulate<T> weight[kMaxModalities];
  int64_t slots, tokens, channels, stride;  // stride between the tokens of source; copy and out are dense
  bool gather;
  T* out;
};

template <class T, int kSlots, bool kGather>
EGFORMER_INLINE void fuse_rows(const FuseBlock<T>& block) {
  for (int64_t n = 0; n < block.tokens; ++n) {
    const T* source[kSlots];
    T* copy[kSlots];
    for (int j = 0; j < kSlots; ++j) {
      source[j] = block.source[j] + n * block.stride;
      copy[j] = kGather ? block.copy[j] + n * block.channels : nullptr;
    }
    T* out = block.out + n * block.channels;
#pragma omp simd
    for (int64_t c = 0; c < block.channels; ++c) {
      Accumulate<T> sum = 0;
      for (int j = 0; j < kSlots; ++j) {
        const T value = source[j][c];
        if (kGather) copy[j][c] = value;
        sum += block.weight[j] * static_cast<Accumulate<T>>(value);
      }
      out[c] = narrow<T>(sum);
    }
  }
}

template <class T, bool kGather>
EGFORMER_INLINE void fuse_slots(const FuseBlock<T>& block) {
  switch (block.slots) {
    case 1:
      return fuse_rows<T, 1, kGather>(block);
    case 2:
      return fuse_rows<T, 2, kGather>(block);
    case 3:
      return fuse_rows<T, 3, kGather>(block);
    case 4:
      return fuse_rows<T, 4, kGather>(block);
    default:
      break;
  }
  for (int64_t n = 0; n < block.tokens; ++n) {
    for (int64_t c = 0; c < block.channels; ++c) {
      Accumulate<T> sum = 0;
      for (int64_t j = 0; j < block.slots; ++j) {
        const T value = block.source[j][n * block.stride + c];
        if (kGather) block.copy[j][n * block.channels + c] = value;
        sum += block.weight[j] * static_cast<Accumulate<T>>(value);
      }
      block.out[n * block.channels + c] = narrow<T>(sum);
    }
  }
}

// A kernel of isa.h.
template <class T>
struct Fuse {
  const FuseBlock<T>& block;
  template <int kBytes>
  EGFORMER_INLINE void run() const {
    return block.gather ? fuse_slots<T, true>(block) : fuse_slots<T, false>(block);
  }
};

// A block of tokens of a kept modality: d_x = d_survivor + weight * d_fused; returns the dot product of d_fused and x.
template <class T>
struct GradientBlock {
  const T* d_survivor;  // null: zero
  const T* d_fused;     // null: zero
  const T* x;
  Accumulate<T> weight;
  int64_t tokens, channels, survivor_stride, fused_stride, x_stride;
  T* d_x;
};

template <class T, bool kSurvivor, bool kFused>
EGFORMER_INLINE double gradient_rows(const GradientBlock<T>& block) {
  using A = Accumulate<T>;
  double total = 0;
  for (int64_t n = 0; n < block.tokens; ++n) {
    const T* survivor = kSurvivor ? block.d_survivor + n * block.survivor_stride : nullptr;
    const T* fused = kFused ? block.d_fused + n * block.fused_stride : nullptr;
    const T* x = block.x + n * block.x_stride;
    T* d_x = block.d_x + n * block.channels;
    A dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t c = 0; c < block.channels; ++c) {
      A value = 0;
      if (kFused) {
        const A g = static_cast<A>(fused[c]);
        value = block.weight * g;
        dot += g * static_cast<A>(x[c]);
      }
      if (kSurvivor) value += static_cast<A>(survivor[c]);
      d_x[c] = narrow<T>(value);
    }
    total += static_cast<double>(dot);
  }
  return total;
}

// A kernel of isa.h.
template <class T>
struct Gradient {
  const GradientBlock<T>& block;
  double& dot;
  template <int kBytes>
  EGFORMER_INLINE void run() const {
    if (block.d_survivor != nullptr) {
      dot = block.d_fused != nullptr ? gradient_rows<T, true, true>(block) : gradient_rows<T, true, false>(block);
    } else {
      dot = block.d_fused != nullptr ? gradient_rows<T, false, true>(block) : gradient_rows<T, false, false>(block);
    }
  }
};

// ---- the op ----------------------------------------------------------------------------------------------------

template <class T>
void forward(const Tensor& x, const Tensor& index, const Tensor& weight, const Tensor& survivors, const Tensor& fused) {
  const int64_t batch = x.size(0), tokens = x.size(2), channels = x.size(3), keep = index.size(1);
  const int64_t step = block_tokens(channels), blocks = ceil_div(tokens, step);
  const bool gather = survivors.size(1) > 0;
  torch::stable::parallel_for(0, batch * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / blocks, first = task % blocks * step;
      FuseBlock<T> block;
      block.tokens = std::min(step, tokens - first);
      block.channels = channels;
      block.stride = x.stride(2);
      block.gather = gather;
      block.slots = 0;
      block.out = write<T>(fused) + (b * tokens + first) * channels;
      for (int64_t j = 0; j < keep; ++j) {
        const int64_t m = read<int64_t>(index)[b * keep + j];
        T* copy = gather ? write<T>(survivors) + ((b * keep + j) * tokens + first) * channels : nullptr;
        if (m < 0) {
          if (gather) std::memset(static_cast<void*>(copy), 0, sizeof(T) * block.tokens * channels);
          continue;
        }
        block.source[block.slots] = read<T>(x) + b * x.stride(0) + m * x.stride(1) + first * x.stride(2);
        block.copy[block.slots] = copy;
        block.weight[block.slots++] = read<Accumulate<T>>(weight)[b * keep + j];
      }
      if (block.stride == channels) {  // one long row
        block.channels *= block.tokens;
        block.tokens = 1;
      }
      run_best(Fuse<T>{block});
    }
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> modality_drop(const Tensor& x_, const Tensor& score_, int64_t keep,
                                                         const std::optional<Tensor>& present_,
                                                         const std::optional<Tensor>& priority_, double threshold,
                                                         bool per_batch, bool gather) {
  const Tensor x = rows(x_), score = dense(score_);
  const std::optional<Tensor> present = dense(present_), priority = dense(priority_);
  const int64_t batch = x.size(0), modalities = x.size(1), tokens = x.size(2), channels = x.size(3);
  STD_TORCH_CHECK(modalities <= kMaxModalities, "modality_drop: at most 16 modalities, got ", modalities);
  const Tensor survivors = torch::stable::new_empty(x, {batch, gather ? keep : 0, tokens, channels});
  const Tensor fused = torch::stable::new_empty(x, {batch, tokens, channels});
  const Tensor index = torch::stable::new_empty(x, {batch, keep}, ScalarType::Long);
  const Tensor weight = torch::stable::new_empty(score, {batch, keep});
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulate<T>;
    const Scores<A> scores{read<A>(score), read<A>(priority ? *priority : score),
                           present ? read<bool>(*present) : nullptr, batch, modalities};
    const std::vector<int64_t> position = per_batch ? batch_order(scores) : std::vector<int64_t>();
    for (int64_t b = 0; b < batch; ++b) {
      select(scores, b, keep, threshold, position, write<int64_t>(index) + b * keep, write<A>(weight) + b * keep);
    }
    forward<T>(x, index, weight, survivors, fused);
  });
  return {survivors, fused, index, weight};
}

// d_x into place; share[b, j] += <d_fused, x[index_j]> over the blocks in order.
template <class T>
void gradients(const std::optional<Tensor>& d_survivors, const std::optional<Tensor>& d_fused, const Tensor& x,
               const Tensor& index, const Tensor& weight, const Tensor& d_x, std::vector<double>& share) {
  const int64_t modalities = x.size(1), tokens = x.size(2), channels = x.size(3), keep = index.size(1);
  const int64_t step = block_tokens(channels), blocks = ceil_div(tokens, step);
  std::vector<double> partial(share.size() * blocks, 0.0);
  torch::stable::parallel_for(0, x.size(0) * modalities * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / (modalities * blocks), m = task / blocks % modalities, part = task % blocks;
      const int64_t first = part * step, count = std::min(step, tokens - first);
      T* out = write<T>(d_x) + ((b * modalities + m) * tokens + first) * channels;
      int64_t slot = 0;
      while (slot < keep && read<int64_t>(index)[b * keep + slot] != m) ++slot;
      if (slot == keep) {
        std::memset(static_cast<void*>(out), 0, sizeof(T) * count * channels);
        continue;
      }
      GradientBlock<T> block{};
      if (d_survivors) {
        block.survivor_stride = d_survivors->stride(2);
        block.d_survivor = read<T>(*d_survivors) + b * d_survivors->stride(0) + slot * d_survivors->stride(1) +
                           first * block.survivor_stride;
      }
      if (d_fused) {
        block.fused_stride = d_fused->stride(1);
        block.d_fused = read<T>(*d_fused) + b * d_fused->stride(0) + first * block.fused_stride;
      }
      block.x_stride = x.stride(2);
      block.x = read<T>(x) + b * x.stride(0) + m * x.stride(1) + first * block.x_stride;
      block.weight = read<Accumulate<T>>(weight)[b * keep + slot];
      block.tokens = count;
      block.channels = channels;
      block.d_x = out;
      run_best(Gradient<T>{block, partial[(b * keep + slot) * blocks + part]});
    }
  });
  for (size_t i = 0; i < share.size(); ++i) {
    for (int64_t part = 0; part < blocks; ++part) share[i] += partial[i * blocks + part];
  }
}

// weight_j = s_j / S: d_s_j = (share_j - sum_i weight_i share_i) / S, zero where S is 0.
template <class A>
void score_gradient(const std::vector<double>& share, const Tensor& score, const Tensor& index, const Tensor& weight,
                    const Tensor& d_score) {
  const int64_t batch = score.size(0), modalities = score.size(1), keep = index.size(1);
  std::memset(d_score.mutable_data_ptr(), 0, sizeof(A) * batch * modalities);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t* slot = read<int64_t>(index) + b * keep;
    double total = 0, mean = 0;
    for (int64_t j = 0; j < keep && slot[j] >= 0; ++j) {
      total += static_cast<double>(read<A>(score)[b * modalities + slot[j]]);
      mean += static_cast<double>(read<A>(weight)[b * keep + j]) * share[b * keep + j];
    }
    for (int64_t j = 0; j < keep && slot[j] >= 0 && total > 0; ++j) {
      write<A>(d_score)[b * modalities + slot[j]] = static_cast<A>((share[b * keep + j] - mean) / total);
    }
  }
}

std::tuple<Tensor, Tensor> modality_drop_backward(const std::optional<Tensor>& d_survivors_,
                                                  const std::optional<Tensor>& d_fused_,
                                                  const std::optional<Tensor>& d_weight_, const Tensor& x_,
                                                  const Tensor& score_, const Tensor& index_, const Tensor& weight_) {
  const auto rows_of = [](const std::optional<Tensor>& t) {
    return t ? std::optional<Tensor>(rows(*t)) : std::nullopt;
  };
  const std::optional<Tensor> d_survivors = rows_of(d_survivors_), d_fused = rows_of(d_fused_);
  const std::optional<Tensor> d_weight = dense(d_weight_);
  const Tensor x = rows(x_), score = dense(score_), index = dense(index_), weight = dense(weight_);
  const Tensor d_x = torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), x.size(3)});
  const Tensor d_score = torch::stable::new_empty(score, {score.size(0), score.size(1)});
  dispatch(x.scalar_type(), [&](auto type) {
    using A = Accumulate<decltype(type)>;
    std::vector<double> share(index.numel(), 0.0);
    for (size_t i = 0; d_weight && i < share.size(); ++i) share[i] = static_cast<double>(read<A>(*d_weight)[i]);
    gradients<decltype(type)>(d_survivors, d_fused, x, index, weight, d_x, share);
    score_gradient<A>(share, score, index, weight, d_score);
  });
  return {d_x, d_score};
}

}  // namespace
}  // namespace egformer

STABLE_TORCH_LIBRARY_IMPL(egformer_fast, CPU, m) {
  m.impl("modality_drop", TORCH_BOX(&egformer::modality_drop));
  m.impl("modality_drop_cpu", TORCH_BOX(&egformer::modality_drop));
  m.impl("modality_drop_backward", TORCH_BOX(&egformer::modality_drop_backward));
  m.impl("modality_drop_backward_cpu", TORCH_BOX(&egformer::modality_drop_backward));
}

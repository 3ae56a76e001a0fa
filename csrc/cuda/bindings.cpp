// The CUDA kernels of modality_score and modality_drop as torch ops: allocates, finds device and stream, launches.
#include "bindings.h"

#include "modality_drop.h"
#include "modality_score.h"

namespace egformer {
namespace {

using Optional = std::optional<Tensor>;

// ---- modality_score ------------------------------------------------------------------------------------------------

template <class W>
ScoreWeights<W> weights(const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2) {
  return {read<W>(w1), read<W>(b1), read<W>(w2), read<W>(b2)};
}

std::tuple<Tensor, Tensor> score(const Tensor& x_, const Tensor& w1_, const Tensor& b1_, const Tensor& w2_,
                                 const Tensor& b2_, const Optional& present_) {
  if (x_.scalar_type() == ScalarType::Double) {
    return call_reference<2>("egformer_fast::modality_score_reference", x_, w1_, b1_, w2_, b2_, present_);
  }
  const OnDevice here(x_);
  const Tensor x = rows(x_), w1 = dense(w1_), b1 = dense(b1_), w2 = dense(w2_), b2 = dense(b2_);
  const Optional present = dense(present_);
  const ScoreShape shape{x.size(0), x.size(1), x.size(2), x.size(3), w1.size(0), x.stride(0), x.stride(1), x.stride(2)};
  const Tensor result = torch::stable::new_empty(x, {x.size(0), x.size(1)}, ScalarType::Float);
  const Tensor pooled = torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(3)}, ScalarType::Float);
  const Tensor scratch = scratch_memory(x, score_scratch(shape));
  dispatch_cuda(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const auto run = [&](auto weight_type) {
      modality_score<T>(read<T>(x), weights<decltype(weight_type)>(w1, b1, w2, b2), read<bool>(present), shape,
                        write<float>(scratch), write<float>(result), write<float>(pooled), here.stream);
    };
    if (w1.scalar_type() == ScalarType::Float) {
      run(float{});
    } else {
      run(T{});
    }
  });
  return {result, pooled};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> score_backward(const Tensor& d_score_, const Tensor& pooled_,
                                                                  const Tensor& w1_, const Tensor& b1_,
                                                                  const Tensor& w2_, const Tensor& b2_,
                                                                  const Optional& present_) {
  if (pooled_.scalar_type() == ScalarType::Double) {
    return call_reference<5>("egformer_fast::modality_score_backward_reference", d_score_, pooled_, w1_, b1_, w2_, b2_,
                             present_);
  }
  const OnDevice here(pooled_);
  const Tensor d_score = dense(d_score_), pooled = dense(pooled_);
  const Tensor w1 = dense(w1_), b1 = dense(b1_), w2 = dense(w2_), b2 = dense(b2_);
  const Optional present = dense(present_);
  ScoreShape shape{};
  shape.batch = pooled.size(0);
  shape.modalities = pooled.size(1);
  shape.channels = pooled.size(2);
  shape.hidden = w1.size(0);
  const Tensor scratch = scratch_memory(pooled, score_backward_scratch(shape));
  const Tensor d_pooled = torch::stable::empty_like(pooled), d_w1 = torch::stable::empty_like(w1),
               d_b1 = torch::stable::empty_like(b1), d_w2 = torch::stable::empty_like(w2),
               d_b2 = torch::stable::empty_like(b2);
  dispatch_cuda(w1.scalar_type(), [&](auto type) {
    using W = decltype(type);
    const ScoreGradients<W> gradients{write<float>(d_pooled), write<W>(d_w1), write<W>(d_b1), write<W>(d_w2),
                                      write<W>(d_b2)};
    modality_score_backward<W>(read<float>(d_score), read<float>(pooled), weights<W>(w1, b1, w2, b2),
                               read<bool>(present), shape, write<float>(scratch), gradients, here.stream);
  });
  return {d_pooled, d_w1, d_b1, d_w2, d_b2};
}

// ---- modality_drop -------------------------------------------------------------------------------------------------

// (B, slots, N, C), or (B, N, C); no tensor: no data.
template <class T>
Rows<T> rows_of(const Optional& tensor) {
  if (!tensor) return {};
  const int64_t last = tensor->dim() - 1;
  return {read<T>(*tensor), tensor->stride(0), last == 3 ? tensor->stride(1) : 0, tensor->stride(last - 1)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> drop(const Tensor& x_, const Tensor& score_, int64_t keep,
                                                const Optional& present_, const Optional& priority_, double threshold,
                                                bool per_batch, bool gather) {
  if (x_.scalar_type() == ScalarType::Double) {
    return call_reference<4>("egformer_fast::modality_drop_reference", x_, score_, keep, present_, priority_, threshold,
                             per_batch, gather);
  }
  const OnDevice here(x_);
  const Tensor x = rows(x_), score = dense(score_);
  const Optional present = dense(present_), priority = dense(priority_);
  const DropShape shape{x.size(0), x.size(1), x.size(2), x.size(3), keep};
  const Tensor survivors = torch::stable::new_empty(x, {shape.batch, gather ? keep : 0, shape.tokens, shape.channels});
  const Tensor fused = torch::stable::new_empty(x, {shape.batch, shape.tokens, shape.channels});
  const Tensor index = torch::stable::new_empty(x, {shape.batch, keep}, ScalarType::Long);
  const Tensor weight = torch::stable::new_empty(score, {shape.batch, keep});
  const DropScores scores{read<float>(score), read<float>(priority), read<bool>(present), static_cast<float>(threshold),
                          per_batch};
  dispatch_cuda(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const DropOutputs<T> outputs{gather ? write<T>(survivors) : nullptr, write<T>(fused), write<int64_t>(index),
                                 write<float>(weight)};
    modality_drop<T>(rows_of<T>(x), scores, shape, outputs, here.stream);
  });
  return {survivors, fused, index, weight};
}

std::tuple<Tensor, Tensor> drop_backward(const Optional& d_survivors_, const Optional& d_fused_,
                                         const Optional& d_weight_, const Tensor& x_, const Tensor& score_,
                                         const Tensor& index_, const Tensor& weight_) {
  if (x_.scalar_type() == ScalarType::Double) {
    return call_reference<2>("egformer_fast::modality_drop_backward_reference", d_survivors_, d_fused_, d_weight_, x_,
                             score_, index_, weight_);
  }
  const OnDevice here(x_);
  const auto with_rows = [](const Optional& t) { return t ? Optional(rows(*t)) : std::nullopt; };
  const Optional d_survivors = with_rows(d_survivors_), d_fused = with_rows(d_fused_), d_weight = dense(d_weight_);
  const Tensor x = rows(x_), score = dense(score_), index = dense(index_), weight = dense(weight_);
  const DropShape shape{x.size(0), x.size(1), x.size(2), x.size(3), index.size(1)};
  const Tensor scratch = scratch_memory(x, drop_backward_scratch(shape));
  const Tensor d_x = torch::stable::new_empty(x, {shape.batch, shape.modalities, shape.tokens, shape.channels});
  const Tensor d_score = torch::stable::new_empty(score, {shape.batch, shape.modalities});
  dispatch_cuda(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const DropGradients<T> gradients{rows_of<T>(d_survivors), rows_of<T>(d_fused), read<float>(d_weight)};
    modality_drop_backward<T>(gradients, rows_of<T>(x), read<float>(score), read<int64_t>(index), read<float>(weight),
                              shape, write<float>(scratch), write<T>(d_x), write<float>(d_score), here.stream);
  });
  return {d_x, d_score};
}

}  // namespace
}  // namespace egformer

STABLE_TORCH_LIBRARY_IMPL(egformer_fast, CUDA, m) {
  m.impl("modality_score", TORCH_BOX(&egformer::score));
  m.impl("modality_score_cuda", TORCH_BOX(&egformer::score));
  m.impl("modality_score_backward", TORCH_BOX(&egformer::score_backward));
  m.impl("modality_score_backward_cuda", TORCH_BOX(&egformer::score_backward));
  m.impl("modality_drop", TORCH_BOX(&egformer::drop));
  m.impl("modality_drop_cuda", TORCH_BOX(&egformer::drop));
  m.impl("modality_drop_backward", TORCH_BOX(&egformer::drop_backward));
  m.impl("modality_drop_backward_cuda", TORCH_BOX(&egformer::drop_backward));
}

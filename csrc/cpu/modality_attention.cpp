// modality_attention on the CPU, in blocks of queries; the formulas are in egformer_fast/ops/modality_attention.py.
//
// The keys and values of kept slots are packed once per (sample, head): keys transposed, (D, T), values (T, D), T =
// kept slots * Nk, padded to whole tiles. Forward: tasks of one (sample, head, query block) hold one block of logits.
// Backward recomputes them from lse twice: by query block for d_q, by (slot, key block) for d_k, d_v and d_bias, where
// one task owns a block of keys and scans the queries. Nothing of size Nq x T is stored, no atomics; 16-bit inputs are
// computed in float32.
#include <torch/csrc/stable/library.h>

#include <limits>
#include <tuple>
#include <vector>

#include "attention_blocks.h"

namespace egformer {
namespace {

constexpr int64_t kQueries = 32;  // of a block

// One row of logits to probabilities times their sum; returns {largest, sum}.
template <class A>
EGFORMER_INLINE std::pair<A, A> soften_any(A* logit, const A* prior, A scale, int64_t count) {
  A largest = -std::numeric_limits<A>::infinity();
#pragma omp simd reduction(max : largest)
  for (int64_t t = 0; t < count; ++t) {
    logit[t] = scale * logit[t] + prior[t];
    largest = logit[t] > largest ? logit[t] : largest;
  }
  const A base = largest == -std::numeric_limits<A>::infinity() ? A(0) : largest;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t t = 0; t < count; ++t) {
    logit[t] = exp_negative(logit[t] - base);
    sum += logit[t];
  }
  return {largest, sum};
}
EGFORMER_CLONES std::pair<float, float> soften(float* logit, const float* prior, float scale, int64_t count) {
  return soften_any(logit, prior, scale, count);
}
EGFORMER_CLONES std::pair<double, double> soften(double* logit, const double* prior, double scale, int64_t count) {
  return soften_any(logit, prior, scale, count);
}

// ---- forward ---------------------------------------------------------------------------------------------------

template <class T>
void attend(const Shape& s, const std::vector<Kept>& kept, const Tensor& q, const Tensor& k, const Tensor& v,
            const std::optional<Tensor>& bias, double scale, const Tensor& out, const Tensor& lse) {
  using A = Accumulate<T>;
  const int64_t heads = s.batch * s.heads, blocks = ceil_div(s.queries, kQueries), wide = s.wide();
  std::vector<Packed<A>> packed(heads);
  torch::stable::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      packed[i] = pack<T>(s, kept[i / s.heads], k, v, bias, i / s.heads, i % s.heads, false);
    }
  });
  torch::stable::parallel_for(0, heads * blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<A> queries(kQueries * wide), logits, result(kQueries * wide);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / blocks, first = task % blocks * kQueries, b = i / s.heads, h = i % s.heads;
      const int64_t count = std::min(kQueries, s.queries - first);
      const Packed<A>& p = packed[i];
      logits.resize(kQueries * p.ld);
      load_rows<T>(head<T>(q, b, h) + first * q.stride(2), q.stride(2), count, s.dim, wide, queries.data());
      product(queries.data(), wide, p.keys_t.data(), p.ld, logits.data(), p.ld, count, s.dim, p.ld, false);
      A total[kQueries];
      for (int64_t n = 0; n < count; ++n) {
        const auto [largest, sum] = soften(logits.data() + n * p.ld, p.prior.data(), static_cast<A>(scale), p.ld);
        total[n] = sum;
        write<A>(lse)[i * s.queries + first + n] = sum > 0 ? largest + std::log(sum) : largest;
      }
      product(logits.data(), p.ld, p.rows.data(), wide, result.data(), wide, count, p.total, wide, false);
      for (int64_t n = 0; n < count; ++n) {
        T* row = write<T>(out) + (i * s.queries + first + n) * s.dim;
        const A factor = total[n] > 0 ? 1 / total[n] : A(0);
        for (int64_t d = 0; d < s.dim; ++d) row[d] = narrow<T>(result[n * wide + d] * factor);
      }
    }
  });
}

std::tuple<Tensor, Tensor> modality_attention(const Tensor& q_, const Tensor& k_, const Tensor& v_,
                                              const std::optional<Tensor>& index_, const std::optional<Tensor>& bias_,
                                              double scale) {
  const Tensor q = rows(q_), k = rows(k_), v = rows(v_);
  const std::optional<Tensor> index = dense(index_), bias = dense(bias_);
  const Shape s = shape_of(q, k, index);
  const Tensor out = torch::stable::new_empty(q, {s.batch, s.heads, s.queries, s.dim});
  const Tensor lse = torch::stable::new_empty(q, {s.batch, s.heads, s.queries}, accumulate_dtype(q.scalar_type()));
  const std::vector<Kept> kept = kept_of(s, index);
  dispatch(q.scalar_type(), [&](auto type) { attend<decltype(type)>(s, kept, q, k, v, bias, scale, out, lse); });
  return {out, lse};
}

}  // namespace
}  // namespace egformer

STABLE_TORCH_LIBRARY_IMPL(egformer_fast, CPU, m) {
  m.impl("modality_attention", TORCH_BOX(&egformer::modality_attention));
  m.impl("modality_attention_cpu", TORCH_BOX(&egformer::modality_attention));
}

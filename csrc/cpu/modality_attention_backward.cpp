// Backward of modality_attention on the CPU; design and formulas at the head of modality_attention.cpp.
#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "attention_blocks.h"

namespace egformer {
namespace {

constexpr int64_t kQueries = 64;  // of a block, a multiple of kColumnTile
constexpr int64_t kKeys = 32;

// probability = exp(scale * logit + prior - lse) into logit, d_logit = probability * (d_probability - delta) into
// d_probability. What is the same along the row comes as a number, what is not as an array.
template <class A>
EGFORMER_INLINE void by_query_any(A* logit, A* d_probability, const A* prior, A lse, A delta, A scale, int64_t count) {
#pragma omp simd
  for (int64_t t = 0; t < count; ++t) {
    logit[t] = exp_negative(scale * logit[t] + prior[t] - lse);
    d_probability[t] = logit[t] * (d_probability[t] - delta);
  }
}
template <class A>
EGFORMER_INLINE A by_key_any(A* logit, A* d_probability, A prior, const A* lse, const A* delta, A scale,
                             int64_t count) {
  A total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t t = 0; t < count; ++t) {
    logit[t] = exp_negative(scale * logit[t] + prior - lse[t]);
    d_probability[t] = logit[t] * (d_probability[t] - delta[t]);
    total += d_probability[t];
  }
  return total;
}
EGFORMER_CLONES void by_query(float* l, float* d, const float* p, float s, float e, float f, int64_t n) {
  by_query_any(l, d, p, s, e, f, n);
}
EGFORMER_CLONES void by_query(double* l, double* d, const double* p, double s, double e, double f, int64_t n) {
  by_query_any(l, d, p, s, e, f, n);
}
EGFORMER_CLONES float by_key(float* l, float* d, float p, const float* s, const float* e, float f, int64_t n) {
  return by_key_any(l, d, p, s, e, f, n);
}
EGFORMER_CLONES double by_key(double* l, double* d, double p, const double* s, const double* e, double f, int64_t n) {
  return by_key_any(l, d, p, s, e, f, n);
}

template <class T>
struct Backward {
  using A = Accumulate<T>;
  const Shape& s;
  const std::vector<Kept>& kept;
  const Tensor &d_out, &q, &k, &v, &out, &lse;
  const std::optional<Tensor>& bias;
  A scale;
  int64_t heads = s.batch * s.heads, wide = s.wide(), ld = ceil_div(s.queries, kQueries) * kQueries;
  // By (sample, head): queries and d_out by row (ld, wide) and by column (dim, ld); lse with 0 for -inf, delta.
  std::vector<A> query = std::vector<A>(heads * ld * wide), query_t = std::vector<A>(heads * s.dim * ld);
  std::vector<A> grad = query, grad_t = query_t, base = std::vector<A>(heads * ld), delta = base;

  void load() {
    torch::stable::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) load_head(i);
    });
  }

  void load_head(int64_t i) {
    const int64_t b = i / s.heads, h = i % s.heads;
    const T *queries = head<T>(q, b, h), *grads = head<T>(d_out, b, h), *result = head<T>(out, b, h);
    load_rows<T>(queries, q.stride(2), s.queries, s.dim, wide, query.data() + i * ld * wide);
    load_rows<T>(grads, d_out.stride(2), s.queries, s.dim, wide, grad.data() + i * ld * wide);
    load_columns<T>(queries, q.stride(2), s.queries, s.dim, ld, query_t.data() + i * s.dim * ld);
    load_columns<T>(grads, d_out.stride(2), s.queries, s.dim, ld, grad_t.data() + i * s.dim * ld);
    for (int64_t n = 0; n < s.queries; ++n) {
      A sum = 0;
      for (int64_t d = 0; d < s.dim; ++d) {
        sum += static_cast<A>(grads[n * d_out.stride(2) + d]) * static_cast<A>(result[n * out.stride(2) + d]);
      }
      const A value = read<A>(lse)[i * s.queries + n];
      delta[i * ld + n] = sum;
      base[i * ld + n] = value == -std::numeric_limits<A>::infinity() ? A(0) : value;
    }
  }

  // d_q: tasks of one block of queries.
  void queries(const Tensor& d_q) {
    const int64_t blocks = ceil_div(s.queries, kQueries);
    std::vector<Packed<A>> packed(heads);
    torch::stable::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        packed[i] = pack<T>(s, kept[i / s.heads], k, v, bias, i / s.heads, i % s.heads, true);
      }
    });
    torch::stable::parallel_for(0, heads * blocks, 1, [&](int64_t begin, int64_t end) {
      std::vector<A> logits, d_logits, result(kQueries * wide);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t i = task / blocks, first = task % blocks * kQueries, row = i * ld + first;
        const int64_t count = std::min(kQueries, s.queries - first);
        const Packed<A>& p = packed[i];
        logits.resize(kQueries * p.ld);
        d_logits.resize(kQueries * p.ld);
        product(query.data() + row * wide, wide, p.keys_t.data(), p.ld, logits.data(), p.ld, count, s.dim, p.ld, false);
        product(grad.data() + row * wide, wide, p.values_t.data(), p.ld, d_logits.data(), p.ld, count, s.dim, p.ld,
                false);
        for (int64_t n = 0; n < count; ++n) {
          by_query(logits.data() + n * p.ld, d_logits.data() + n * p.ld, p.prior.data(), base[row + n], delta[row + n],
                   scale, p.ld);
        }
        product(d_logits.data(), p.ld, p.rows.data(), wide, result.data(), wide, count, p.total, wide, false);
        store(result, count, write<T>(d_q) + (i * s.queries + first) * s.dim, scale);
      }
    });
  }

  void store(const std::vector<A>& rows, int64_t count, T* out_rows, A factor) const {
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t d = 0; d < s.dim; ++d) out_rows[n * s.dim + d] = narrow<T>(factor * rows[n * wide + d]);
    }
  }

  // d_k, d_v, d_bias: tasks of one block of keys of one (sample, modality, head), which scan slots and queries.
  void keys(const Tensor& d_k, const Tensor& d_v, A* d_bias) {
    const int64_t blocks = ceil_div(s.keys, kKeys), tasks = s.batch * s.modalities * s.heads * blocks;
    std::vector<double> partial(s.batch * s.slots * s.heads * blocks, 0.0);
    torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
      KeyBlock block(wide);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t part = task % blocks, h = task / blocks % s.heads, map = task / (blocks * s.heads);
        const int64_t b = map / s.modalities, m = map % s.modalities, first = part * kKeys;
        const int64_t count = std::min(kKeys, s.keys - first);
        block.start(slot_head<T>(k, b, m, h) + first * k.stride(3), k.stride(3),
                    slot_head<T>(v, b, m, h) + first * v.stride(3), v.stride(3), count, s.dim, wide);
        for (int64_t i = 0; i < kept[b].count(); ++i) {
          if (kept[b].modality[i] != m) continue;
          const int64_t slot = kept[b].slot[i];
          const A prior = bias ? read<A>(*bias)[b * s.slots + slot] : A(0);
          partial[((b * s.slots + slot) * s.heads + h) * blocks + part] = scan(block, b * s.heads + h, prior, count);
        }
        const int64_t row = ((b * s.modalities + m) * s.heads + h) * s.keys + first;
        store(block.d_keys, count, write<T>(d_k) + row * s.dim, scale);
        store(block.d_values, count, write<T>(d_v) + row * s.dim, A(1));
      }
    });
    for (int64_t i = 0; d_bias != nullptr && i < s.batch * s.slots; ++i) {
      double total = 0;
      for (int64_t j = 0; j < s.heads * blocks; ++j) total += partial[i * s.heads * blocks + j];
      d_bias[i] = static_cast<A>(total);
    }
  }

  struct KeyBlock {
    std::vector<A> keys, values, d_keys, d_values, logits, d_logits;
    explicit KeyBlock(int64_t wide)
        : keys(kKeys * wide), values(keys), d_keys(keys), d_values(keys), logits(kKeys * kQueries), d_logits(logits) {}
    void start(const T* k, int64_t k_stride, const T* v, int64_t v_stride, int64_t count, int64_t dim, int64_t wide) {
      load_rows<T>(k, k_stride, count, dim, wide, keys.data());
      load_rows<T>(v, v_stride, count, dim, wide, values.data());
      std::fill(d_keys.begin(), d_keys.end(), A(0));
      std::fill(d_values.begin(), d_values.end(), A(0));
    }
  };

  // All queries of (sample, head) i against a block of keys; returns the sum of d_logits.
  double scan(KeyBlock& block, int64_t i, A prior, int64_t count) const {
    double total = 0;
    for (int64_t first = 0; first < ld; first += kQueries) {
      const int64_t row = i * ld + first, column = i * s.dim * ld + first;
      product(block.keys.data(), wide, query_t.data() + column, ld, block.logits.data(), kQueries, count, s.dim,
              kQueries, false);
      product(block.values.data(), wide, grad_t.data() + column, ld, block.d_logits.data(), kQueries, count, s.dim,
              kQueries, false);
      for (int64_t t = 0; t < count; ++t) {
        total += static_cast<double>(by_key(block.logits.data() + t * kQueries, block.d_logits.data() + t * kQueries,
                                            prior, base.data() + row, delta.data() + row, scale, kQueries));
      }
      product(block.logits.data(), kQueries, grad.data() + row * wide, wide, block.d_values.data(), wide, count,
              kQueries, wide, true);
      product(block.d_logits.data(), kQueries, query.data() + row * wide, wide, block.d_keys.data(), wide, count,
              kQueries, wide, true);
    }
    return total;
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> modality_attention_backward(
    const Tensor& d_out_, const Tensor& q_, const Tensor& k_, const Tensor& v_, const std::optional<Tensor>& index_,
    const std::optional<Tensor>& bias_, const Tensor& out_, const Tensor& lse_, double scale) {
  const Tensor d_out = rows(d_out_), q = rows(q_), k = rows(k_), v = rows(v_), out = rows(out_), lse = dense(lse_);
  const std::optional<Tensor> index = dense(index_), bias = dense(bias_);
  const Shape s = shape_of(q, k, index);
  const Tensor d_q = torch::stable::new_empty(q, {s.batch, s.heads, s.queries, s.dim});
  const Tensor d_k = torch::stable::new_empty(k, {s.batch, s.modalities, s.heads, s.keys, s.dim});
  const Tensor d_v = torch::stable::new_empty(v, {s.batch, s.modalities, s.heads, s.keys, s.dim});
  const Tensor d_bias = bias ? torch::stable::new_empty(lse, {s.batch, s.slots}) : torch::stable::new_empty(lse, {0});
  const std::vector<Kept> kept = kept_of(s, index);
  dispatch(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulate<T>;
    Backward<T> pass{s, kept, d_out, q, k, v, out, lse, bias, static_cast<A>(scale)};
    pass.load();
    pass.queries(d_q);
    pass.keys(d_k, d_v, bias ? write<A>(d_bias) : nullptr);
  });
  return {d_q, d_k, d_v, d_bias};
}

}  // namespace
}  // namespace egformer

STABLE_TORCH_LIBRARY_IMPL(egformer_fast, CPU, m) {
  m.impl("modality_attention_backward", TORCH_BOX(&egformer::modality_attention_backward));
  m.impl("modality_attention_backward_cpu", TORCH_BOX(&egformer::modality_attention_backward));
}

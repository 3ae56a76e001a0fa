// Backward of modality_attention on the CPU; the formulas are in egformer_fast/ops/modality_attention.py.
//
// Five products per block of queries and block of keys, the probabilities recomputed from lse:
//
//     P = exp2(scale Q K' + prior - lse)      dP = dO V'      dS = P * (dP - rowsum(dO * O))
//     dV += P' dO      dK += dS' Q      dQ += dS K      d_prior += column sums of dS
//
// A task takes one chunk of queries of one (sample, head) through all keys: it owns its rows of dQ and adds up dK, dV
// and d_prior of its chunk, which are then added in the order of the chunks. The chunks depend on Nq alone: no atomics,
// the same bits for any number of threads. The terms of d_prior nearly cancel: float32 within a block, float64 beyond.
#include <torch/csrc/stable/library.h>

#include <limits>
#include <tuple>
#include <vector>

#include "attention_blocks.h"

namespace egformer {
namespace {

constexpr int64_t kChunk = 1024;    // queries of a chunk, at least
constexpr int64_t kMaxChunks = 16;  // of one (sample, head): bounds the memory of their sums

inline int64_t chunk_queries(int64_t queries) {
  return ceil_div(std::max(kChunk, ceil_div(queries, kMaxChunks)), kQueries) * kQueries;
}

template <class A>
struct Buffers {
  int64_t ld = kKeys + kPanel<A>;  // an odd number of cache lines from row to row
  Scratch<A> queries, grads, probabilities, d_logits, d_queries, base, delta, d_prior;
  explicit Buffers(int64_t wide)
      : queries(kQueries * wide),
        grads(kQueries * wide),
        probabilities(kQueries * ld),
        d_logits(kQueries * ld),
        d_queries(kQueries * wide),
        base(kQueries),
        delta(kQueries),
        d_prior(ld) {}
};

// The sums of one task: (width, wide), (width, wide), (width).
template <class A>
struct ChunkSums {
  A *d_keys, *d_values;
  double* d_prior;
};

// The rows of one (sample, head) that a task reads and writes.
template <class T>
struct Rows {
  const T *q, *d_out, *out;
  int64_t q_stride, d_out_stride;  // out is dense
  const Accumulate<T>* lse;
  T* d_q;
};

// One chunk of queries against all keys, a kernel of isa.h.
template <class T>
struct ChunkBackward {
  using A = Accumulate<T>;
  const Packed<A>& packed;
  const Buffers<A>& buffers;
  Rows<T> rows;
  int64_t count;
  double scale;
  ChunkSums<A> sums;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    for (int64_t i = 0; i < packed.width * packed.wide; ++i) sums.d_keys[i] = sums.d_values[i] = 0;
    for (int64_t t = 0; t < packed.width; ++t) sums.d_prior[t] = 0;
    for (int64_t first = 0; first < count; first += kQueries) block<kBytes>(first, std::min(kQueries, count - first));
  }

  template <int kBytes>
  EGFORMER_INLINE void block(int64_t row, int64_t queries) const {
    const int64_t dim = packed.dim, wide = packed.wide, ld = buffers.ld;
    load_rows<T>(rows.q + row * rows.q_stride, rows.q_stride, queries, dim, wide, buffers.queries.at());
    load_rows<T>(rows.d_out + row * rows.d_out_stride, rows.d_out_stride, queries, dim, wide, buffers.grads.at());
    for (int64_t i = 0; i < queries * wide; ++i) buffers.d_queries.at()[i] = 0;
    for (int64_t n = 0; n < queries; ++n) row_terms(row + n, n);
    const Left<A> q{buffers.queries.at(), wide, 1}, d_out{buffers.grads.at(), wide, 1};
    A* const p = buffers.probabilities.at();
    A* const d_logits = buffers.d_logits.at();
    for (int64_t first = 0; first < packed.width; first += kKeys) {
      const int64_t keys = std::min(kKeys, packed.width - first);
      product<A, kBytes>(q, packed.panels(packed.key_panels, first), {p, ld}, queries, dim, keys, false);
      product<A, kBytes>(d_out, packed.panels(packed.value_panels, first), {d_logits, ld}, queries, dim, keys, false);
      std::fill_n(buffers.d_prior.at(), ld, A(0));
      for (int64_t n = 0; n < queries; ++n) probabilities<kBytes>(n, first, keys);
      for (int64_t t = 0; t < keys; ++t) sums.d_prior[first + t] += buffers.d_prior.at()[t];
      // Transposed on the left; on the right, rows of this block.
      product<A, kBytes>({p, 1, ld}, {buffers.grads.at(), wide, kPanel<A>}, {sums.d_values + first * wide, wide}, keys,
                         queries, wide, true);
      product<A, kBytes>({d_logits, 1, ld}, {buffers.queries.at(), wide, kPanel<A>}, {sums.d_keys + first * wide, wide},
                         keys, queries, wide, true);
      product<A, kBytes>({d_logits, ld, 1}, packed.rows(packed.key_rows, first), {buffers.d_queries.at(), wide},
                         queries, keys, wide, true);
    }
    for (int64_t n = 0; n < queries; ++n) {
#pragma omp simd
      for (int64_t d = 0; d < dim; ++d) {
        rows.d_q[(row + n) * dim + d] = narrow<T>(static_cast<A>(scale) * buffers.d_queries.at(n * wide)[d]);
      }
    }
  }

  // What a row needs for all blocks of keys: lse in units of log 2 (0 where there is nothing to attend to), delta.
  EGFORMER_INLINE void row_terms(int64_t row, int64_t n) const {
    const A* const grad = buffers.grads.at(n * packed.wide);
    const T* const out = rows.out + row * packed.dim;
    A delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t d = 0; d < packed.dim; ++d) delta += grad[d] * static_cast<A>(out[d]);
    const A lse = rows.lse[row];
    buffers.delta.at()[n] = delta;
    buffers.base.at()[n] = lse == -std::numeric_limits<A>::infinity() ? A(0) : static_cast<A>(kLog2E * lse);
  }

  // Row n of the block: products to P and dS.
  template <int kBytes>
  EGFORMER_INLINE void probabilities(int64_t n, int64_t first, int64_t keys) const {
    const A base = buffers.base.at()[n], delta = buffers.delta.at()[n];
    const A factor = static_cast<A>(scale * kLog2E);
    A* const p = buffers.probabilities.at(n * buffers.ld);
    A* const d_logit = buffers.d_logits.at(n * buffers.ld);
    const A* const prior = packed.prior.at(first);
    A* const d_prior = buffers.d_prior.at();
    using V = typename VectorOf<A, kBytes>::type;
    for (int64_t t = 0; t < keys; t += VectorOf<A, kBytes>::kLanes) {
      V x, gradient, bias, sum;
      load(x, p + t);
      load(gradient, d_logit + t);
      load(bias, prior + t);
      load(sum, d_prior + t);
      x = factor * x + (bias - base);
      exp2_negative<kBytes>(x);
      gradient = x * (gradient - delta);
      sum += gradient;
      store(x, p + t);
      store(gradient, d_logit + t);
      store(sum, d_prior + t);
    }
  }
};

template <class T>
class Backward {
  using A = Accumulate<T>;

 public:
  Backward(const Shape& s, const std::vector<Kept>& kept, const Tensor& k, const Tensor& v,
           const std::optional<Tensor>& bias)
      : s_(s), kept_(kept), packed_(pack<T>(s, kept, k, v, bias, true)), chunk_(chunk_queries(s.queries)) {
    for (const Packed<A>& p : packed_) widest_ = std::max(widest_, p.width);
    wide_ = whole_panels(s.dim, kPanel<A>);
    chunks_ = ceil_div(s.queries, chunk_);
    sums_ = Scratch<A>(s.batch * s.heads * chunks_ * task_size());
    priors_ = Scratch<double>(s.batch * s.heads * chunks_ * widest_);
  }

  // dQ, and the sums of each chunk.
  void chunks(const Tensor& d_out, const Tensor& q, const Tensor& out, const Tensor& lse, double scale,
              const Tensor& d_q) const {
    const View<T> grads(d_out), queries(q);
    const T* const results = read<T>(out);
    const A* const sums = read<A>(lse);
    T* const d_queries = write<T>(d_q);
    torch::stable::parallel_for(0, s_.batch * s_.heads * chunks_, 1, [&](int64_t begin, int64_t end) {
      const Buffers<A> buffers(wide_);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t i = task / chunks_, first = task % chunks_ * chunk_, row = i * s_.queries + first;
        const int64_t b = i / s_.heads, h = i % s_.heads;
        const Rows<T> rows{
            queries.at(b, h, first), grads.at(b, h, first), results + row * s_.dim, queries.row, grads.row, sums + row,
            d_queries + row * s_.dim};
        run_best(
            ChunkBackward<T>{packed_[i], buffers, rows, std::min(chunk_, s_.queries - first), scale, sums_of(task)});
      }
    });
  }

  // d_k and d_v of every modality, from the sums of the chunks in order; zeros where no slot keeps it.
  void keys(double scale, const Tensor& d_k, const Tensor& d_v) const {
    T *const d_keys = write<T>(d_k), *const d_values = write<T>(d_v);
    torch::stable::parallel_for(0, s_.batch * s_.modalities * s_.heads, 1, [&](int64_t begin, int64_t end) {
      const Scratch<A> total(2 * s_.keys * wide_);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t h = task % s_.heads, m = task / s_.heads % s_.modalities, b = task / s_.heads / s_.modalities;
        add_slots(b, m, h, total.at());
        for (int64_t n = 0; n < s_.keys; ++n) {
          const int64_t row = (task * s_.keys + n) * s_.dim;
          for (int64_t d = 0; d < s_.dim; ++d) {
            d_keys[row + d] = narrow<T>(static_cast<A>(scale) * total.at(n * wide_)[d]);
            d_values[row + d] = narrow<T>(total.at((s_.keys + n) * wide_)[d]);
          }
        }
      }
    });
  }

  void prior(A* d_bias) const {
    std::fill_n(d_bias, s_.batch * s_.slots, A(0));
    for (int64_t b = 0; b < s_.batch; ++b) {
      for (int64_t i = 0; i < kept_[b].count(); ++i) {
        double total = 0;
        for (int64_t task = b * s_.heads * chunks_; task < (b + 1) * s_.heads * chunks_; ++task) {
          const double* const from = sums_of(task).d_prior + i * s_.keys;
          for (int64_t t = 0; t < s_.keys; ++t) total += from[t];
        }
        d_bias[b * s_.slots + kept_[b].slot[i]] = static_cast<A>(total);
      }
    }
  }

 private:
  int64_t task_size() const { return 2 * widest_ * wide_; }

  ChunkSums<A> sums_of(int64_t task) const {
    A* const first = sums_.at(task * task_size());
    return {first, first + widest_ * wide_, priors_.at(task * widest_)};
  }

  // total (2, Nk, wide): dK and dV of the slots that hold modality m.
  void add_slots(int64_t b, int64_t m, int64_t h, A* total) const {
    const int64_t size = s_.keys * wide_;
    std::fill_n(total, 2 * size, A(0));
    for (int64_t i = 0; i < kept_[b].count(); ++i) {
      if (kept_[b].modality[i] != m) continue;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const ChunkSums<A> sums = sums_of((b * s_.heads + h) * chunks_ + chunk);
        for (int64_t j = 0; j < size; ++j) total[j] += sums.d_keys[i * size + j];
        for (int64_t j = 0; j < size; ++j) total[size + j] += sums.d_values[i * size + j];
      }
    }
  }

  const Shape& s_;
  const std::vector<Kept>& kept_;
  std::vector<Packed<A>> packed_;
  int64_t chunk_, chunks_ = 0, widest_ = 0, wide_ = 0;
  Scratch<A> sums_ = Scratch<A>(0);
  Scratch<double> priors_ = Scratch<double>(0);
};

std::tuple<Tensor, Tensor, Tensor, Tensor> modality_attention_backward(
    const Tensor& d_out_, const Tensor& q_, const Tensor& k_, const Tensor& v_, const std::optional<Tensor>& index_,
    const std::optional<Tensor>& bias_, const Tensor& out_, const Tensor& lse_, double scale) {
  const Tensor d_out = rows(d_out_), q = rows(q_), k = rows(k_), v = rows(v_), out = dense(out_), lse = dense(lse_);
  const std::optional<Tensor> index = dense(index_), bias = dense(bias_);
  const Shape s = shape_of(q, k, index);
  const Tensor d_q = torch::stable::new_empty(q, {s.batch, s.heads, s.queries, s.dim});
  const Tensor d_k = torch::stable::new_empty(k, {s.batch, s.modalities, s.heads, s.keys, s.dim});
  const Tensor d_v = torch::stable::new_empty(v, {s.batch, s.modalities, s.heads, s.keys, s.dim});
  const Tensor d_bias = bias ? torch::stable::new_empty(lse, {s.batch, s.slots}) : torch::stable::new_empty(lse, {0});
  const std::vector<Kept> kept = kept_of(s, index);
  dispatch(q.scalar_type(), [&](auto type) {
    using T = decltype(type);
    const Backward<T> pass(s, kept, k, v, bias);
    pass.chunks(d_out, q, out, lse, scale, d_q);
    pass.keys(scale, d_k, d_v);
    if (bias) pass.prior(write<Accumulate<T>>(d_bias));
  });
  return {d_q, d_k, d_v, d_bias};
}

}  // namespace
}  // namespace egformer

STABLE_TORCH_LIBRARY_IMPL(egformer_fast, CPU, m) {
  m.impl("modality_attention_backward", TORCH_BOX(&egformer::modality_attention_backward));
  m.impl("modality_attention_backward_cpu", TORCH_BOX(&egformer::modality_attention_backward));
}

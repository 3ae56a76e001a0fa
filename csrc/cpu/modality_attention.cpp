// modality_attention on the CPU, in blocks of queries; the formulas are in egformer_fast/ops/modality_attention.py.
//
// Keys and values of kept slots are packed once per (sample, head), so that the inner product reads them line by line.
// A task takes one block of queries of one (sample, head) through all blocks of keys with the online softmax: the
// logits of a block stay in the cache, nothing of size Nq x T is stored. Exponentials are taken to base 2. 16-bit
// inputs are computed in float32. Bytes moved: q, k, v read once, out and lse written once, the packed keys re-read
// from cache.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "attention_blocks.h"

namespace egformer {
namespace {

template <class A>
struct Buffers {
  int64_t wide, ld = kKeys + kPanel<A>;  // an odd number of cache lines from row to row
  Scratch<A> queries, logits, sums, largest, total;
  explicit Buffers(int64_t wide_)
      : wide(wide_),
        queries(kQueries * wide_),
        logits(kQueries * ld),
        sums(kQueries * wide_),
        largest(kQueries),
        total(kQueries) {}
};

// A row of products to logits, scale * product + prior; returns the largest of them and of `best`.
template <class A, int kBytes>
EGFORMER_INLINE A to_logits(A* row, const A* prior, A scale, int64_t keys, A best) {
  using V = typename VectorOf<A, kBytes>::type;
  constexpr int64_t kLanes = VectorOf<A, kBytes>::kLanes;
  V most = V{} + best;
  for (int64_t t = 0; t < keys; t += kLanes) {
    V x, p;
    load(x, row + t);
    load(p, prior + t);
    x = scale * x + p;
    store(x, row + t);
    most = x > most ? x : most;
  }
  for (int i = 0; i < kLanes; ++i) best = most[i] > best ? most[i] : best;
  return best;
}

// A row of logits to 2^(logit - base); returns their sum.
template <class A, int kBytes>
EGFORMER_INLINE A soften(A* row, A base, int64_t keys) {
  using V = typename VectorOf<A, kBytes>::type;
  constexpr int64_t kLanes = VectorOf<A, kBytes>::kLanes;
  V sums = V{};
  for (int64_t t = 0; t < keys; t += kLanes) {
    V x;
    load(x, row + t);
    x = x - base;
    exp2_negative<kBytes>(x);
    store(x, row + t);
    sums += x;
  }
  A sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += sums[i];
  return sum;
}

// One block of queries against all keys, a kernel of isa.h.
template <class T>
struct QueryBlock {
  using A = Accumulate<T>;
  const Packed<A>& packed;
  const Buffers<A>& buffers;
  const T* q;
  int64_t stride, count;
  A scale;
  T* out;
  A* lse;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    const int64_t dim = packed.dim, wide = packed.wide, ld = buffers.ld;
    load_rows<T>(q, stride, count, dim, wide, buffers.queries.at());
    for (int64_t first = 0; first < packed.width; first += kKeys) {
      const int64_t keys = std::min(kKeys, packed.width - first), depth = std::min(keys, packed.total - first);
      product<A, kBytes>({buffers.queries.at(), wide, 1}, packed.panels(packed.key_panels, first),
                         {buffers.logits.at(), ld}, count, dim, keys, false);
      for (int64_t n = 0; n < count; ++n) online_softmax<kBytes>(n, first, keys);
      product<A, kBytes>({buffers.logits.at(), ld, 1}, packed.rows(packed.value_rows, first), {buffers.sums.at(), wide},
                         count, depth, wide, first > 0);
    }
    for (int64_t n = 0; n < count; ++n) store_row(n);
  }

  // A row of products to exponentials; rescales what earlier blocks have summed when a larger logit comes.
  template <int kBytes>
  EGFORMER_INLINE void online_softmax(int64_t n, int64_t first, int64_t keys) const {
    A* const row = buffers.logits.at(n * buffers.ld);
    A& largest = buffers.largest.at()[n];
    A& total = buffers.total.at()[n];
    const A before = first > 0 ? largest : -std::numeric_limits<A>::infinity();
    const A best = to_logits<A, kBytes>(row, packed.prior.at(first), scale, keys, before);
    const A base = best == -std::numeric_limits<A>::infinity() ? A(0) : best;
    const A sum = soften<A, kBytes>(row, base, keys);
    largest = best;
    if (first == 0) {
      total = sum;
      return;
    }
    if (best != before) {
      const A factor = std::exp2(before - base);
      A* const sums = buffers.sums.at(n * packed.wide);
      total *= factor;
#pragma omp simd
      for (int64_t d = 0; d < packed.wide; ++d) sums[d] *= factor;
    }
    total += sum;
  }

  EGFORMER_INLINE void store_row(int64_t n) const {
    T* const to = out + n * packed.dim;
    const A total = packed.total > 0 ? buffers.total.at()[n] : A(0);
    if (total == 0) {
      for (int64_t d = 0; d < packed.dim; ++d) to[d] = narrow<T>(0);
      lse[n] = -std::numeric_limits<A>::infinity();
      return;
    }
    const A factor = 1 / total;
    const A* const sums = buffers.sums.at(n * packed.wide);
#pragma omp simd
    for (int64_t d = 0; d < packed.dim; ++d) to[d] = narrow<T>(sums[d] * factor);
    lse[n] = buffers.largest.at()[n] * static_cast<A>(1 / kLog2E) + std::log(total);
  }
};

template <class T>
void attend(const Shape& s, const std::vector<Kept>& kept, const Tensor& q, const Tensor& k, const Tensor& v,
            const std::optional<Tensor>& bias, double scale, const Tensor& out, const Tensor& lse) {
  using A = Accumulate<T>;
  const int64_t blocks = ceil_div(s.queries, kQueries);
  const auto packed = pack<T>(s, kept, k, v, bias, false);
  const View<T> queries(q);
  T* const results = write<T>(out);
  A* const sums = write<A>(lse);
  torch::stable::parallel_for(0, s.batch * s.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    const Buffers<A> buffers(whole_panels(s.dim, kPanel<A>));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / blocks, first = task % blocks * kQueries, row = i * s.queries + first;
      run_best(QueryBlock<T>{packed[i], buffers, queries.at(i / s.heads, i % s.heads, first), queries.row,
                             std::min(kQueries, s.queries - first), static_cast<A>(scale * kLog2E),
                             results + row * s.dim, sums + row});
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

// What forward and backward of modality_attention share on the CPU: shapes, kept slots, packing of keys and values.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "dispatch.h"
#include "scratch.h"
#include "tile_product.h"

namespace egformer {

constexpr int64_t kQueries = 48;  // of a block: a multiple of every tile height
constexpr int64_t kKeys = 128;    // of a block
constexpr double kLog2E = 1.44269504088896340736;

struct Shape {
  int64_t batch, heads, queries, dim, modalities, keys, slots;
};

inline Shape shape_of(const Tensor& q, const Tensor& k, const std::optional<Tensor>& index) {
  return {q.size(0), q.size(1), q.size(2), q.size(3), k.size(1), k.size(3), index ? index->size(1) : k.size(1)};
}

// The kept slots of a sample, in order: which slot, which modality.
struct Kept {
  std::vector<int64_t> slot, modality;
  int64_t count() const { return static_cast<int64_t>(slot.size()); }
};

inline std::vector<Kept> kept_of(const Shape& s, const std::optional<Tensor>& index) {
  std::vector<Kept> kept(s.batch);
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t j = 0; j < s.slots; ++j) {
      const int64_t m = index ? read<int64_t>(*index)[b * s.slots + j] : j;
      if (m < 0 || m >= s.modalities) continue;
      kept[b].slot.push_back(j);
      kept[b].modality.push_back(m);
    }
  }
  return kept;
}

// A (B, H, N, D) tensor with dense rows, its strides read once: asking a tensor costs a call.
template <class T>
struct View {
  const T* data;
  int64_t sample, head, row;
  explicit View(const Tensor& t) : data(read<T>(t)), sample(t.stride(0)), head(t.stride(1)), row(t.stride(2)) {}
  const T* at(int64_t b, int64_t h, int64_t n) const { return data + b * sample + h * head + n * row; }
};
// The same for (B, M, H, N, D).
template <class T>
struct SlotView {
  const T* data;
  int64_t sample, modality, head, row;
  explicit SlotView(const Tensor& t)
      : data(read<T>(t)), sample(t.stride(0)), modality(t.stride(1)), head(t.stride(2)), row(t.stride(3)) {}
  const T* at(int64_t b, int64_t m, int64_t h) const { return data + b * sample + m * modality + h * head; }
};

// count rows of D values at `source`, to a dense (count, wide) block with zeros behind D.
template <class T>
EGFORMER_INLINE void load_rows(const T* source, int64_t stride, int64_t count, int64_t dim, int64_t wide,
                               Accumulate<T>* out) {
  for (int64_t n = 0; n < count; ++n) {
#pragma omp simd
    for (int64_t d = 0; d < dim; ++d) out[n * wide + d] = static_cast<Accumulate<T>>(source[n * stride + d]);
    for (int64_t d = dim; d < wide; ++d) out[n * wide + d] = 0;
  }
}

// count rows to columns `first`, first + 1, ... of panels of (dim, kPanel).
template <class T>
EGFORMER_INLINE void load_panels(const T* source, int64_t stride, int64_t count, int64_t dim, int64_t first,
                                 Accumulate<T>* panels) {
  constexpr int64_t kColumns = kPanel<Accumulate<T>>;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t column = first + n;
    Accumulate<T>* out = panels + column / kColumns * kColumns * dim + column % kColumns;
    for (int64_t d = 0; d < dim; ++d) out[d * kColumns] = static_cast<Accumulate<T>>(source[n * stride + d]);
  }
}

// Keys and values of the kept slots of one (sample, head): T = slots * Nk of them, rounded up to `width` whole panels.
// prior: the bias per key in units of log 2, -inf behind the last key.
template <class A>
struct Packed {
  int64_t dim, total, width, wide;
  Scratch<A> key_panels, key_rows, value_panels, value_rows, prior;

  // Forward multiplies with keys by panel and values by row; backward with keys both ways and values by panel.
  Packed(int64_t dim_, int64_t total_, bool backward)
      : dim(dim_),
        total(total_),
        width(whole_panels(total_, kPanel<A>)),
        wide(whole_panels(dim_, kPanel<A>)),
        key_panels(width * dim),
        key_rows(backward ? width * wide : 0),
        value_panels(backward ? width * dim : 0),
        value_rows(backward ? 0 : width * wide),
        prior(width) {}

  Right<A> panels(const Scratch<A>& from, int64_t first) const {
    return {from.at(first * dim), kPanel<A>, dim * kPanel<A>};
  }
  Right<A> rows(const Scratch<A>& from, int64_t first) const { return {from.at(first * wide), wide, kPanel<A>}; }
};

// Fills a Packed, a kernel of isa.h.
template <class T>
struct Pack {
  const Shape& s;
  const Kept& kept;
  const SlotView<T>&k, &v;
  const Accumulate<T>* bias;  // (B, K), null: zeros
  int64_t b, h;
  bool backward;
  const Packed<Accumulate<T>>& out;

  template <int kBytes>
  EGFORMER_INLINE void run() const {
    using A = Accumulate<T>;
    for (int64_t t = out.total; t < out.width; ++t) {
      const int64_t corner = t / kPanel<A> * kPanel<A> * s.dim + t % kPanel<A>;
      for (int64_t d = 0; d < s.dim; ++d) out.key_panels.at(corner)[d * kPanel<A>] = 0;
      for (int64_t d = 0; backward && d < s.dim; ++d) out.value_panels.at(corner)[d * kPanel<A>] = 0;
      for (int64_t d = 0; d < out.wide; ++d) (backward ? out.key_rows : out.value_rows).at(t * out.wide)[d] = 0;
      out.prior.at()[t] = -std::numeric_limits<A>::infinity();
    }
    for (int64_t i = 0; i < kept.count(); ++i) {
      const T* keys = k.at(b, kept.modality[i], h);
      const T* values = v.at(b, kept.modality[i], h);
      const int64_t first = i * s.keys;
      load_panels<T>(keys, k.row, s.keys, s.dim, first, out.key_panels.at());
      if (backward) {
        load_panels<T>(values, v.row, s.keys, s.dim, first, out.value_panels.at());
        load_rows<T>(keys, k.row, s.keys, s.dim, out.wide, out.key_rows.at(first * out.wide));
      } else {
        load_rows<T>(values, v.row, s.keys, s.dim, out.wide, out.value_rows.at(first * out.wide));
      }
      const A prior = bias == nullptr ? A(0) : static_cast<A>(kLog2E * bias[b * s.slots + kept.slot[i]]);
      for (int64_t t = 0; t < s.keys; ++t) out.prior.at(first)[t] = prior;
    }
  }
};

// One Packed for each (sample, head).
template <class T>
std::vector<Packed<Accumulate<T>>> pack(const Shape& s, const std::vector<Kept>& kept, const Tensor& k, const Tensor& v,
                                        const std::optional<Tensor>& bias, bool backward) {
  using A = Accumulate<T>;
  const SlotView<T> keys(k), values(v);
  const A* priors = bias ? read<A>(*bias) : nullptr;
  std::vector<Packed<A>> packed;
  packed.reserve(s.batch * s.heads);
  for (int64_t i = 0; i < s.batch * s.heads; ++i) {
    packed.emplace_back(s.dim, kept[i / s.heads].count() * s.keys, backward);
  }
  torch::stable::parallel_for(0, s.batch * s.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      run_best(Pack<T>{s, kept[i / s.heads], keys, values, priors, i / s.heads, i % s.heads, backward, packed[i]});
    }
  });
  return packed;
}

}  // namespace egformer
